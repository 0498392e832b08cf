"""Validation during a run: held-out loss at fixed times, a sheet of edits, and success where it is known.

Distillation for few steps does not lower the flow's loss, so the error of the edits stands in its place.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from PIL import Image

from editkit import adapters, flow
from editkit.backbone import Backbone, Transformer
from editkit.config import Options
from editkit.data.buckets import encode_records
from editkit.data.datasets import CheckedDataset, World, dataset
from editkit.data.records import FILES, DataConfig, Record
from editkit.editor import Editor
from editkit.errors import EditkitError, EditkitWarning
from editkit.imaging import contact_sheet, images
from editkit.inference.inputs import prepare
from editkit.method import Conditioner, Method, Trainer
from editkit.train import status
from editkit.train.settings import EditTrainConfig
from editkit.train.validation_settings import ValidationConfig
from editkit.types import EditRequest

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
SHOWN = 12


class ValidatedJob(Protocol):
    """The parts of an edit job that validation uses."""

    config: EditTrainConfig
    method: Method[Options]
    backbone: Backbone
    role: str
    conditioner: Conditioner[Options]
    trainer: Trainer[Options]


class Validation:
    """Validates an edit job's current weights.

    Args:
        job: the job, such as `editkit.train.finetune.EditJob`.
        settings: options of validation.
        records: those that `held_out` loads.

    Raises:
        EditkitError: where no record can be read and edited.
    """

    def __init__(self, job: ValidatedJob, settings: ValidationConfig, records: Sequence[Record]) -> None:
        self.job, self.settings = job, settings
        self.records = self._editable(records)

    def _editable(self, records: Sequence[Record]) -> list[Record]:
        """Keep the records that the method can edit and learn from; warn of the others."""
        problems = [self._problem(record) for record in records]
        for problem in filter(None, problems):
            _left_out(problem)
        if all(problems):
            raise EditkitError(f"None of the validation's records can be edited: {problems[0]}")
        return [record for record, problem in zip(records, problems, strict=True) if problem is None]

    @torch.no_grad()
    def _problem(self, record: Record) -> str | None:
        """Say why a record cannot be validated; None where it can."""
        job = self.job
        try:
            job.conditioner.plan_without_text(prepare(self._request(record, 0)).inputs)
            encode_records([record], job.backbone, job.conditioner, job.trainer)
        except EditkitError as error:
            return str(error)
        return None

    def _request(self, record: Record, seed: int) -> EditRequest:
        request = record.request(self.job.method.name, seed, self._steps)
        return replace(request, guidance=self.job.config.guidance) if self.job.config.few_steps else request

    @property
    def _steps(self) -> int | None:
        return self.job.config.few_steps if self.settings.steps is None else self.settings.steps

    @torch.no_grad()
    def __call__(self, step: int, folder: Path | None) -> dict[str, float]:
        """Return figures by name, and write a sheet of edits, `step-*.png`, to the folder if there is one."""
        transformer = self.job.backbone.transformer(self.job.role)
        transformer.eval()
        try:
            # Batches have other sizes than in training; compiling for them would take longer than running.
            with torch.compiler.set_stance("force_eager"):
                editor = self._editor(transformer)
                shown = self.records[:SHOWN]
                edits = self._edits(editor, shown)
                if folder is not None:
                    _sheet(edits, shown, folder / f"step-{step:07d}.png")
                if self.job.config.few_steps:
                    figures = {"error of edits": error(edits, shown)}
                else:
                    figures = {"held-out loss": self._loss()}
                if self.settings.success:
                    figures["success"] = self._success(editor)
        finally:
            transformer.train()
        return figures

    def _editor(self, transformer: Transformer) -> Editor:
        """Make an editor whose only adapter is the one in training."""
        name = self.job.method.name
        editor = Editor(self.job.backbone, {name: self.job.config.options})
        editor.use_adapters(list(adapters.active(transformer)), method=name)
        return editor

    def _loss(self) -> float:
        """Return the mean squared error of the velocity at fixed times with fixed noise."""
        job, found = self.job, []
        for number, record in enumerate(self.records):
            status.tell(status.VALIDATING, number, len(self.records))
            plan, tensors = encode_records([record], job.backbone, job.conditioner, job.trainer)
            plan, x0_BLC = job.conditioner.with_text(plan, [record.instruction]), tensors["x0_BLC"].float()
            noise_BLC = torch.randn(x0_BLC.shape, generator=torch.Generator().manual_seed(number)).to(x0_BLC)
            for time in TIMES:
                time_B = torch.full((1,), time, device=x0_BLC.device)
                x_BLC, velocity_BLC = flow.interpolate(x0_BLC, noise_BLC, time_B)
                with torch.autocast(x0_BLC.device.type, torch.bfloat16, enabled=self._low):
                    predicted_BLC = job.backbone.velocity(x_BLC, time_B, plan, job.config.guidance)
                found.append(flow.loss(predicted_BLC, velocity_BLC, tensors.get("weights_BL")))
        return float(torch.stack(found).mean())

    @property
    def _low(self) -> bool:
        return self.job.config.fit.low

    def _edits(self, editor: Editor, records: Sequence[Record]) -> list[Image.Image]:
        requests = [self._request(record, number) for number, record in enumerate(records)]
        results = editor.edit_many(requests)
        if errors := [result.error for result in results if result.error]:
            raise EditkitError(str(errors[0]))
        return [result.image for result in results if result.image is not None]

    def _success(self, editor: Editor) -> float:
        settings, trained = self.settings, self.job.config.data
        return world_of(trained).success(editor, self.job.method.name, settings.success, self._steps)


def held_out(settings: ValidationConfig, trained: DataConfig) -> Sequence[Record]:
    """Load the validation records: those of `data`, or ShapesWorld's held-out ones of the trained kinds."""
    if settings.data is not None:
        records = CheckedDataset(dataset(settings.data))
        found = [records[place] for place in range(min(settings.examples, len(records)))]
        for problem in (record for record in found if isinstance(record, str)):
            _left_out(problem)
        kept = [record for record in found if isinstance(record, Record)]
        if not kept:
            raise EditkitError("None of the validation's records can be read; run `editkit data check`.")
        return kept
    return world_of(trained).held_out(settings.examples)


def world_of(trained: DataConfig) -> World:
    """Return the world of a run's pairs, or the default one for a run on files."""
    return cast(World, dataset(DataConfig() if trained.name in FILES else trained))


def _sheet(edits: Sequence[Image.Image], records: Sequence[Record], path: Path) -> None:
    rows = []
    for edited, record in zip(edits, records, strict=True):
        shown = record.source if record.source is not None else next(iter(record.references), None)
        before = None if shown is None else Image.fromarray(shown)
        rows.append((record.instruction, [before, edited, Image.fromarray(record.answer)]))
    sheet = contact_sheet.groups(rows, ("source", "edit", "answer"))
    if sheet is not None:
        images.save(sheet, path)


def error(edits: Sequence[Image.Image], records: Sequence[Record]) -> float:
    """Return the mean absolute error of edits to their records' answers, of pixels from 0 to 1."""
    found = []
    for edited, record in zip(edits, records, strict=True):
        answer = Image.fromarray(record.answer).resize(edited.size)
        pictures = (np.asarray(each.convert("RGB"), np.float32) for each in (edited, answer))
        found.append(np.abs(np.subtract(*pictures)).mean() / 255)
    return float(np.mean(found))


def _left_out(problem: str) -> None:
    warnings.warn(f"A record of the validation is left out: {problem}", EditkitWarning, stacklevel=3)
