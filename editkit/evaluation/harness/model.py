"""The model that lmms-eval runs: it edits pictures, and answers with the paths of the results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.model import lmms
from loguru import logger

from editkit import api, registry
from editkit.errors import EditkitError
from editkit.evaluation.records import Item
from editkit.imaging import images
from editkit.types import EditRequest, EditResult

NO_WORDS = "editkit edits pictures: give tasks of generate_until, such as gedit_bench."


class EditkitModel(lmms):
    """A method on a backbone, for `lmms_eval --model editkit --model_args method=kontext,backbone=tiny`.

    The answer to a request is JSON, `{"text": "", "images": [PATH]}`, as lmms-eval's editing tasks read it.
    The answer to an edit that failed has no picture, and the error as text. Tokens and sampling of a task's
    generation_kwargs mean nothing to an editor.

    Args:
        method: edits the pictures.
        backbone: a name, folder or Hub id.
        out: folder of the results, one below it for each task.
        seed: mixed into every request's seed.
        steps: Euler steps; the method's own where None.
        dtype: float32, bfloat16 or float16; what suits the device where None.
        device: where it runs; the best one here where None.
        batch_size: pictures that are edited together.
        max_batch_size: accepted from lmms-eval, which gives it to every model.

    Raises:
        EditkitError: for an unknown method, backbone or argument.
    """

    is_simple = True

    def __init__(
        self,
        method: str = "",
        backbone: str = "tiny",
        out: str = "out/lmms-eval",
        seed: int = 0,
        steps: int | None = None,
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise EditkitError(
                f"--model_args has {next(iter(unknown))!r}; give method, backbone, out, seed, steps, dtype."
            )
        if not method:
            known = ", ".join(registry.method_names())
            raise EditkitError(f"--model_args needs method=NAME; known names are {known}.")
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise EditkitError(f"--batch_size {batch_size} is not allowed; give 1 or more.")
        self.method, self.seed, self.steps = method, seed, steps
        self.out, self.batch_size = Path(out), int(batch_size)
        self.editor = api.load(backbone, self._joined(device), dtype)
        self.editor.method(method)

    def _joined(self, device: str | None) -> str | None:
        """Join the other processes of a launcher, and give this one's device."""
        import torch
        from accelerate import Accelerator

        self.accelerator = Accelerator(cpu=not torch.accelerator.is_available())
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        return str(self.accelerator.device) if self._world_size > 1 else device

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Edit the pictures of lmms-eval's requests, a batch at a time."""
        answers: list[str] = []
        for start in range(0, len(requests), self.batch_size):
            batch = [request.args for request in requests[start : start + self.batch_size]]
            answers += self._answers(batch)
        return answers

    def _answers(self, batch: Sequence[tuple[Any, ...]]) -> Iterator[str]:
        made = [self._request(*args) for args in batch]
        results = iter(self.editor.edit_many([each for each in made if isinstance(each, EditRequest)]))
        for (_, _, _, doc, task, _), each in zip(batch, made, strict=True):
            yield self._answer(str(task), doc, next(results) if isinstance(each, EditRequest) else each)

    def _request(
        self, text: str, _: Any, visuals: Any, doc: int, task: str, split: str
    ) -> EditRequest | EditkitError:
        pictures = list(visuals(self.task_dict[task][split][doc]) or ())
        if not pictures:
            return EditkitError("The request has no picture to edit.")
        try:
            return EditRequest(
                image=pictures[0],
                instruction=text,
                method=self.method,
                references=pictures[1:],
                seed=Item(id=f"{task} {doc}", instruction=text).seed(self.seed),
                steps=self.steps,
            )
        except EditkitError as error:
            return error

    def _answer(self, task: str, doc: int, result: EditResult | EditkitError) -> str:
        if isinstance(result, EditkitError) or result.image is None:
            error = str(result) if isinstance(result, EditkitError) else str(result.error)
            logger.warning(f"{task} {doc}: {error}")
            return json.dumps({"text": error, "images": []}, ensure_ascii=False)
        path = self.out / task / f"{doc}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images.save(result.image, path, result.recipe)
        return json.dumps({"text": "", "images": [str(path.resolve())]}, ensure_ascii=False)

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: an editor has no words to rate.

        Raises:
            EditkitError: always.
        """
        raise EditkitError(NO_WORDS)

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: it answers once.

        Raises:
            EditkitError: always.
        """
        raise EditkitError(NO_WORDS)
