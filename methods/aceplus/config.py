"""ACE++'s options, and the adapters that go with its tasks."""

import math
from dataclasses import dataclass
from pathlib import Path

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
"""By the backbone's base and by what a task asks for; `full` is a full model that is no transformer."""
PLACEHOLDERS = (
    *("<img>", "{image}", "{caption}", "{mask}", "{ref_image}"),
    *(f"{{image{number}}}" for number in range(1, 10)),
)
"""In the order of the released training, which fixes their tokens."""
CHOICES = {
    "model": ("lora", "full"),
    "layout": ("canvas", "sequence"),
    "reference": (None, "height", "keep", "random"),
    "change": ("split", "whole", "none"),
    "crop": ("exact", "released"),
    "encoding": ("sample", "mode"),
    "loss": ("paper", "released"),
}


@dataclass(frozen=True, kw_only=True)
class ACEPlusConfig:
    """How condition units are made and joined, and how they are trained on."""

    model: str = "lora"
    """`lora`: FLUX.1 Fill with a task's LoRA, 384 channels; `full`: the full model, 448, role `ace`."""
    adapter: str | None = "default"
    """The task's own where the backbone has it (`default`), one of local, subject, portrait and full whatever
    the task, a file, a folder or a Hub id; null goes without."""
    layout: str = "canvas"
    """How references join: `canvas` puts them left of the target on one grid (released); `sequence` makes
    each unit a block of tokens at an image index of its own (paper, equation 5)."""
    scale: float | None = None
    """How much of the picture under the mask is taken away, 0 to 1; the task's own where null."""
    change: str = "split"
    """Full model, where the content under the mask is shown: `split`, in the change channels alone (released
    MODIFY_MODE); `whole`, there and in the image's; `none`, nowhere."""
    reference: str | None = None
    """`height`: scaled to the picture's height. `keep`: its own pixels, up to `reference_rate` of that
    height, on mid-gray. `random`: a third to all of the height, on mid-gray, as the released training drew
    it. As the released inference does where null: `height` for model=lora, `keep` for full."""
    reference_rate: float = 0.8
    """Largest share of the picture's height that a reference keeps with reference=keep."""
    unit_prompts: bool = False
    """layout=sequence: an instruction's lines are the units' own, T_1, ..., T_m of equation 5, each at its
    unit's image index: first the references', last the picture's."""
    placeholders: tuple[str, ...] = PLACEHOLDERS
    """Words that are tokens of their own to T5, where its embedding has room for them; the released diffusers
    script registers `{image}` alone, which gives it another token than the training did."""
    max_tokens: int = 4096
    """Largest number of tokens of the whole canvas, references included; larger pictures are scaled down."""
    crop: str = "exact"
    """`exact`: the target's panel. `released`: 30 pixels of its left edge are lost, the rest is stretched."""
    encoding: str = "sample"
    """Pictures under a mask: `sample` of the posterior, as released, or its `mode`."""
    true_cfg: float = 2.0
    """Scale of classifier-free guidance where a negative prompt is given."""
    prompt_dropout: float = 0.1
    """Training: how often the prompt is left out (paper; the released code never does)."""
    loss: str = "paper"
    """Training: `paper`, the mean over each reference's tokens plus the mean over the target's (equation 6);
    `released`, one mean over the canvas, in which a wide reference counts for more."""
    mask_weight: float = 1.0
    """Training: how much more a token that is all under the mask counts in its mean than one outside it."""

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


def default_adapter(options: ACEPlusConfig, base: str | None, request: EditRequest) -> str | None:
    """Choose the default adapter for a request.

    Raises:
        NoAdapterError: where the default is asked for and there is none for the base model.
    """
    if options.adapter is None:
        return None
    known = ADAPTERS.get(base or "", {})
    if options.adapter != "default":
        return known.get(options.adapter, options.adapter)
    task = tasks.choose(
        request.task,
        image=request.image is not None,
        mask=request.mask is not None,
        references=bool(request.references),
    )
    if options.model == "full":
        return known.get("full")  # the full model was trained for every task at once
    if not known:
        raise NoAdapterError("aceplus has no adapter for this backbone and edits without training.")
    return known[task.adapter]


def role_of(options: ACEPlusConfig) -> str:
    """The transformer that the model runs on: of 448 channels for the full one."""
    return "ace" if options.model == "full" else "fill"
