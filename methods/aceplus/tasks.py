"""What ACE++ is used for, as data: what each task needs, says and shows (official model zoo and examples)."""

from dataclasses import dataclass

from editkit.errors import EditkitError, unknown
from editkit.method import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class ACETask(Task):
    """A row of the table below.

    Attributes:
        needs: which of image, mask and references must be given; without a mask all may be painted.
        adapter: the LoRA made for it: local, subject or portrait.
        scale: how much of the picture under the mask is taken away, 0 to 1, before a LoRA on FLUX.1 Fill
            sees it (repainting scale).
        full_scale: the same for the full model, which sees it in channels of its own.
        prefix: what the official prompts start with; `{image}` stands for the edited picture.
        control: the annotator that the picture under the mask goes through.
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
    """The task asked for, or the one that fits what is given.

    Raises:
        EditkitError: where there is none of this name, or it needs what is not given.
    """
    given = {"image": image, "mask": mask, "references": references}
    if name is None:
        if references:
            # Where a reference is to go into a picture without a mask, all of it may change.
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
    return task
