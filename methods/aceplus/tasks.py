"""Use cases of ACE++ as data: their inputs, prompts and masks (official model zoo and examples)."""

from dataclasses import dataclass

from editkit.errors import EditkitError, unknown
from editkit.method import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class ACETask(Task):
    """A use case of ACE++.

    Attributes:
        needs: inputs that must be given, of image, mask and references.
        adapter: the LoRA of the task: local, subject or portrait.
        scale: how much of the picture under the mask is removed, 0 to 1, for a LoRA on FLUX.1 Fill
            (repainting scale).
        full_scale: the repainting scale for the full model, which sees the content in channels of its own.
        prefix: beginning of the official prompts; `{image}` stands for the edited picture.
        control: annotator for the picture under the mask; None for none.
    """

    needs: tuple[str, ...]
    adapter: str = "local"
    scale: float = 1.0
    full_scale: float = 1.0
    prefix: str = ""
    control: str | None = None


IMAGE = "{image}"


def _controlled(name: str, control: str, summary: str) -> ACETask:
    return ACETask(
        name=name,
        summary=summary,
        needs=("image",),
        scale=0.5,
        full_scale=0.0,
        prefix=f"{IMAGE} ",
        control=control,
    )


TASKS = (
    ACETask(
        name="instruction",
        summary="free instruction on a whole picture",
        needs=("image",),
        scale=0.0,
        full_scale=0.0,
        prefix=f"{IMAGE} ",
    ),
    ACETask(
        name="local_editing",
        summary="instruction for what lies under a mask",
        needs=("image", "mask"),
        scale=0.5,
        full_scale=0.0,
        prefix=f"{IMAGE} ",
    ),
    ACETask(
        name="repainting",
        summary="description of what to paint under a mask, whatever was there",
        needs=("image", "mask"),
    ),
    ACETask(
        name="subject",
        summary="description of a new picture of the reference's subject",
        needs=("references",),
        adapter="subject",
    ),
    ACETask(
        name="portrait",
        summary="description of a new picture of the reference's person",
        needs=("references",),
        adapter="portrait",
        prefix="Maintain the facial features. ",
    ),
    ACETask(
        name="local_reference",
        summary="puts the reference's subject under the mask of a picture",
        needs=("image", "mask", "references"),
        adapter="subject",
    ),
    ACETask(name="generation", summary="text to image", needs=()),
    _controlled("recolouring", "gray", "colours for a gray picture, from its description"),
    _controlled("mosaic", "mosaic", "a picture from its mosaic and description"),
    _controlled("canny", "canny", "a picture from its Canny edges and description"),
    _controlled("contour", "contour", "a picture from its line drawing and description"),
    _controlled("depth", "depth", "a picture from its depth and description"),
)


def choose(name: str | None, *, image: bool, mask: bool, references: bool) -> ACETask:
    """Choose the task by name, or one that fits the given inputs.

    Raises:
        EditkitError: where no task has this name, an input of the task is missing, or the task would paint
            over a whole picture.
    """
    given = {"image": image, "mask": mask, "references": references}
    if name is None:
        if references:
            # A reference without a mask may change all of the picture.
            name = "local_reference" if image else "subject"
        else:
            name = ("local_editing" if mask else "instruction") if image else "generation"
    known = {task.name: task for task in TASKS}
    if name not in known:
        raise EditkitError(unknown("task of aceplus called", name, known))
    task = known[name]
    missing = [what for what in task.needs if not given[what]]
    if missing == ["mask"] and name == "local_reference":
        missing = []
    if missing:
        others = ", ".join(task.name for task in TASKS)
        raise EditkitError(
            f"aceplus needs {' and '.join(missing)} for the task {name}; give that or name one of {others}."
        )
    if image and not mask and "image" not in task.needs:
        raise EditkitError(
            f"aceplus would paint over all of the picture for the task {name}; give a mask, or leave the "
            "picture out."
        )
    return task
