"""Options of ICEdit, its in-context prompts and its default adapters."""

import math
from dataclasses import dataclass
from pathlib import Path

from editkit import adapters
from editkit.errors import NoAdapterError
from editkit.types import EditRequest
from methods.icedit.moe_options import MoEOptions

FRAMEWORKS = ("inpainting", "text")
TEMPLATES = {
    "released": (
        "A diptych with two side-by-side images of the same scene. "
        "On the right, the scene is exactly the same as on the left but {instruction}"
    ),
    "paper": (
        "a side-by-side image of the same {subject}: the left depicts the original {description}, "
        "while the right mirrors the left but applies {instruction}"
    ),
    "none": "{instruction}",
}
"""Prompts: the released script's, the paper's (section 3.1), and the bare instruction."""

TINY = Path(__file__).resolve().parent / "tiny"
RELEASED = {"lora": "RiverZ/normal-lora", "moe": "sanaka87/ICEdit-MoE-LoRA"}
ADAPTERS = {
    "tiny": {name: str(TINY / name) for name in ("moe", "lora")},
    "flux1-dev": RELEASED,
}
"""Adapters by the backbone's base, the default first. Those on the Hub are the authors', for non-commercial
use."""


@dataclass(frozen=True, kw_only=True)
class ICEditConfig:
    """Options of ICEdit."""

    framework: str = "inpainting"
    """`inpainting`: FLUX.1 Fill paints the right half (released). `text`: text to image with the attention
    values of the inverted source in the left half, the paper's other framework without training."""
    adapter: str | None = "default"
    """`default`: the first adapter for the backbone, if there is one. Or `lora` or `moe` where the backbone
    has them, a file, a folder or a Hub id; null for no adapter. framework=text takes none."""
    template: str = "released"
    """`released`, `paper` (which needs `subject` and `description`), or `none`: the bare instruction."""
    subject: str = "scene"
    """Words for the picture's subject in the paper's prompt."""
    description: str = "scene"
    """Description of the source in the paper's prompt."""
    width: int = 512
    """Width of each half in pixels, for backbones without sizes of their own; the released weights need
    512."""
    area: int = 1024 * 1024
    """Largest number of pixels of each half; a taller picture gets padding at its sides."""
    encoding: str = "sample"
    """How Fill's masked picture is encoded: `sample` of the posterior, as in diffusers, or its `mode`."""
    context: str = "joint"
    """How the given half attends: `joint`, with all tokens (released); `cached`, to itself only and at a
    fixed time, so that its keys and values are computed once. `cached` is for weights trained with it; its
    loss is over the right half."""
    true_cfg: float = 2.0
    """Scale of classifier-free guidance where a negative prompt is given."""
    prompt_dropout: float = 0.1
    """Training: share of samples whose whole prompt is left out."""
    loss: str = "both"
    """Training: the loss is over `both` halves (released), or over the `right` half only."""
    moe: MoEOptions | None = None
    """Training: options of a LoRA-MoE; a plain LoRA where null."""

    def __post_init__(self) -> None:
        if self.framework not in FRAMEWORKS:
            raise ValueError(f"framework must be one of {', '.join(FRAMEWORKS)}, not {self.framework!r}")
        if self.template not in TEMPLATES:
            raise ValueError(f"template must be one of {', '.join(TEMPLATES)}, not {self.template!r}")
        if self.width < 16 or self.area < 16 * self.width:
            raise ValueError(
                f"width must be at least 16 and area 16 rows of it, not {self.width}, {self.area}"
            )
        if self.encoding not in ("sample", "mode"):
            raise ValueError(f"encoding must be sample or mode, not {self.encoding!r}")
        if not math.isfinite(self.true_cfg):
            raise ValueError(f"true_cfg must be a finite number, not {self.true_cfg}")
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"prompt_dropout must lie in [0, 1), not {self.prompt_dropout}")
        if self.context not in ("joint", "cached"):
            raise ValueError(f"context must be joint or cached, not {self.context!r}")
        if self.context == "cached" and self.framework == "text":
            raise ValueError("context=cached needs framework=inpainting")
        if self.adapter not in (None, "default") and self.framework == "text":
            raise ValueError(f"adapter={self.adapter} needs framework=inpainting")
        if self.loss not in ("both", "right"):
            raise ValueError(f"loss must be both or right, not {self.loss!r}")


CONFIG = ICEditConfig


def default_adapter(options: ICEditConfig, base: str | None, _: EditRequest) -> str | None:
    """Choose the default adapter for a base model.

    Raises:
        NoAdapterError: where the default is asked for and there is none for the base model.
        EditkitError: for an adapter that is none of the backbone's, no file, no folder and no Hub id.
    """
    known = ADAPTERS.get(base or "", {})
    if options.framework == "text" or options.adapter is None:
        return None
    if options.adapter == "default":
        if not known:
            raise NoAdapterError("icedit has no adapter for this backbone and edits without training.")
        return next(iter(known.values()))
    return adapters.choose(options.adapter, known, base)


def role_of(options: ICEditConfig) -> str:
    """Return the role of the transformer that the framework runs on."""
    return "text" if options.framework == "text" else "fill"
