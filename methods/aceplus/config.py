"""Options of ACE++, and the default adapters of its tasks."""

import math
from dataclasses import dataclass
from pathlib import Path

from editkit import adapters
from editkit.errors import NoAdapterError
from editkit.types import EditRequest
from methods.aceplus import tasks

TINY = Path(__file__).resolve().parent / "tiny"
RELEASED = {
    "local": "hf://ali-vilab/ACE_Plus/local_editing/comfyui_local_lora16.safetensors",
    "subject": "hf://ali-vilab/ACE_Plus/subject/comfyui_subject_lora16.safetensors",
    "portrait": "hf://ali-vilab/ACE_Plus/portrait/comfyui_portrait_lora64.safetensors",
}
ADAPTERS = {
    "tiny": {name: str(TINY / name) for name in ("local", "subject", "full")}
    | {"portrait": str(TINY / "subject")},
    "flux1-dev": RELEASED,
}
"""Adapters by the backbone's base and by the task's adapter; `full` is a full model as an adapter."""
PLACEHOLDERS = (
    *("<img>", "{image}", "{caption}", "{mask}", "{ref_image}"),
    *(f"{{image{number}}}" for number in range(1, 10)),
)
"""Placeholders in the order of the released training, which fixes their tokens."""
CHOICES = {
    "model": ("lora", "full"),
    "layout": ("canvas", "sequence"),
    "reference": (None, "height", "keep", "random"),
    "change": ("split", "whole", "none"),
    "context": ("joint", "cached"),
    "crop": ("exact", "released"),
    "encoding": ("sample", "mode"),
    "loss": ("paper", "released"),
}


@dataclass(frozen=True, kw_only=True)
class ACEPlusConfig:
    """Options of ACE++."""

    model: str = "lora"
    """`lora`: FLUX.1 Fill with a task's LoRA, 384 channels; `full`: the full model, 448 channels, role
    `ace`."""
    adapter: str | None = "default"
    """`default`: the task's adapter, where the backbone has one. Or `local`, `subject`, `portrait` or, on
    `tiny`, `full` for every task, a file, a folder or a Hub id; null for no adapter."""
    layout: str = "canvas"
    """How references join: `canvas` puts them left of the target on one grid (released); `sequence` makes
    each unit a block of tokens at an image index of its own (paper, equation 5)."""
    scale: float | None = None
    """How much of the picture under the mask is removed, 0 to 1; the task's value where null."""
    change: str = "split"
    """Full model, where the content under the mask is shown: `split`, in the change channels only (released
    MODIFY_MODE); `whole`, in the change and the image channels; `none`, nowhere."""
    reference: str | None = None
    """`height`: scaled to the picture's height. `keep`: its own pixels, up to `reference_rate` of that
    height, on mid-gray. `random`: a third to all of the height, drawn as in the released training, on
    mid-gray. Where null, as in the released inference: `height` for model=lora, `keep` for model=full."""
    reference_rate: float = 0.8
    """With reference=keep, the largest share of the picture's height that a reference has."""
    unit_prompts: bool = False
    """With layout=sequence, each line of an instruction belongs to one unit and has its image index (T_1,
    ..., T_m of equation 5): first the references' lines, then the picture's."""
    placeholders: tuple[str, ...] = PLACEHOLDERS
    """Words that become tokens of their own for T5, where its embedding has room for them. The released
    diffusers script registers only `{image}`, which gives it another token than in training."""
    max_tokens: int = 4096
    """Largest number of tokens of the whole canvas, references included; larger pictures are scaled down."""
    crop: str = "exact"
    """`exact`: the result is the target's panel. `released`: its left 30 pixels are cut off, the rest is
    stretched."""
    encoding: str = "sample"
    """How pictures are encoded: `sample` of the posterior, as released, or its `mode`."""
    context: str = "joint"
    """How references attend: `joint`, with all tokens (released); `cached`, to each other only and at a fixed
    time, so that their keys and values are computed once. `cached` is for weights trained with it."""
    true_cfg: float = 2.0
    """Scale of classifier-free guidance where a negative prompt is given."""
    prompt_dropout: float = 0.1
    """Training: share of samples whose prompt is left out (paper; the released code leaves none out)."""
    loss: str = "paper"
    """Training: `paper`, the mean over each reference's tokens plus the mean over the target's (equation 6);
    `released`, one mean over the canvas, in which a wide reference counts for more."""
    mask_weight: float = 1.0
    """Training: weight of a token that lies under the mask, against 1 for one outside it."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                words = ", ".join("null" if word is None else word for word in allowed)
                raise ValueError(f"{name} must be one of {words}, not {value!r}")
        if self.scale is not None and not 0 <= self.scale <= 1:
            raise ValueError(f"scale must lie in [0, 1], not {self.scale}")
        if not 0 < self.reference_rate <= 1:
            raise ValueError(f"reference_rate must lie in (0, 1], not {self.reference_rate}")
        if self.unit_prompts and self.layout != "sequence":
            raise ValueError("unit_prompts=true needs layout=sequence")
        if self.max_tokens < 4:
            raise ValueError(f"max_tokens must be at least 4, not {self.max_tokens}")
        if not math.isfinite(self.true_cfg):
            raise ValueError(f"true_cfg must be a finite number, not {self.true_cfg}")
        if not 0 <= self.prompt_dropout < 1:
            raise ValueError(f"prompt_dropout must lie in [0, 1), not {self.prompt_dropout}")
        if not 1 <= self.mask_weight < float("inf"):
            raise ValueError(f"mask_weight must be at least 1, not {self.mask_weight}")


CONFIG = ACEPlusConfig


def default_adapter(options: ACEPlusConfig, base: str | None, request: EditRequest) -> str | None:
    """Choose the default adapter for a request.

    Raises:
        NoAdapterError: where the default is asked for and there is none for the base model.
        EditkitError: for an adapter that is none of the backbone's, no file, no folder and no Hub id, or for
            a request that does not suit its task.
    """
    if options.adapter is None:
        return None
    known = ADAPTERS.get(base or "", {})
    if options.adapter != "default":
        return adapters.choose(options.adapter, known, base)
    task = tasks.choose(
        request.task,
        image=request.image is not None,
        mask=request.mask is not None,
        references=bool(request.references),
    )
    if options.model == "full":
        return known.get("full")  # the full model is trained for all tasks
    if not known:
        raise NoAdapterError("aceplus has no adapter for this backbone and edits without training.")
    return known[task.adapter]


def role_of(options: ACEPlusConfig) -> str:
    """Return the role of the transformer: `ace`, of 448 channels, for the full model, else `fill`."""
    return "ace" if options.model == "full" else "fill"
