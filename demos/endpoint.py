"""The endpoint `/edit` for programs: few inputs that must be given, outputs with names."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demos.device import QUEUE, USUAL, VisitorStoppedError, load_weights
from demos.pictures import opened, photo
from demos.place import Place
from demos.result_cards import saved
from demos.visit import Visit
from editkit.errors import EditkitError
from editkit.types import EditRequest, EditResult

OUTPUTS = ("picture", "recipe", "notes", "seconds")


def add(place: Place) -> None:
    """Add the endpoint to the page; its components are never seen."""

    def edit(
        visit: Visit,
        picture: dict[str, Any],
        instruction: str,
        method: str = USUAL,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        preserve: bool = False,
        mask: dict[str, Any] | None = None,
        references: list[dict[str, Any]] | None = None,
    ) -> list[Any]:
        """Edit one picture; files are read as the command line reads them."""
        try:
            given = photo(place.pixels, picture)
            extra = [opened(file["path"], place.pixels) for file in references or ()]
            request = EditRequest(
                image=given.checked(),
                instruction=instruction,
                method=method,
                seed=seed,
                steps=steps,
                guidance=guidance,
                preserve=preserve or None,
                mask=mask["path"] if mask else None,
                references=tuple(each.image for each in extra if each.image),
            )
            result = _run(place, visit, request)
        except EditkitError as error:
            raise gr.Error(str(error), print_exception=False) from error
        notes = [*given.notes, *place.device.remarks(given.checked()), *result.notes]
        notes += place.kept.add(visit, given.checked(), result)
        return [saved(result, visit), dict(result.recipe), notes, sum(result.timings.values())]

    with gr.Column(visible=False):
        gr.Button().click(
            edit,
            [place.visit, *_inputs()],
            _outputs(),
            preprocess=False,
            concurrency_id=QUEUE,
            concurrency_limit=1,
            api_name="edit",
        )


def _inputs() -> list[Any]:
    """Make the inputs; programs may leave out what has a value here, or None in `edit`."""
    return [
        gr.File(label="picture"),
        gr.Textbox(label="instruction"),
        gr.Textbox(USUAL, label="method"),
        gr.Number(0, label="seed", precision=0),
        gr.Number(label="steps", precision=0),
        gr.Number(label="guidance"),
        gr.Checkbox(label="preserve"),
        gr.File(label="mask"),
        gr.File(label="references", file_count="multiple"),
    ]


def _outputs() -> list[Any]:
    picture, recipe, notes, seconds = OUTPUTS
    return [gr.File(label=picture), gr.JSON(label=recipe), gr.JSON(label=notes), gr.Number(label=seconds)]


def _run(place: Place, visit: Visit, request: EditRequest) -> EditResult:
    """Run one edit on the page's device.

    Raises:
        EditkitError: where it cannot be carried out.
    """
    editor = place.device.editor_of(visit)

    def work(tell: Any, watch: Any) -> None:
        load_weights(editor, request, tell)
        tell(editor.run(request, watch=watch))

    for event in place.device.stream(visit, work):
        if isinstance(event, VisitorStoppedError):
            raise EditkitError("The edit was stopped.")
        if isinstance(event, EditkitError):
            raise event
        if isinstance(event, EditResult):
            return event
    raise EditkitError("The edit ended without a result.")
