"""Edits of a shipped photograph by weights on this machine, and diffusers' pipelines on the same seed."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxFillPipeline, FluxKontextPipeline
from PIL import Image
from torch import Tensor

import editkit
from editkit import EditRequest, config, registry
from tests import ROOT
from tests.pictures import difference
from tests.rehearsal.edits import latents, mask
from tests.rehearsal.figures import relative, start, tell
from tests.rehearsal.networks import LENGTH

PHOTO = ROOT / "demos" / "samples" / "coffee.jpg"
INSTRUCTION = "turn the coffee into green tea"
PAINTED = "a cup of green tea"
SEED, STEPS = 42, 4
CLOSE = 0.1
"""Largest relative RMS of latents after these steps in bfloat16, where two ways round otherwise."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where they are, and how to run them.

    Attributes:
        kontext: Hub id or folder of FLUX.1 Kontext.
        fill: the same of FLUX.1 Fill.
        adapters: files of released adapters: `lora` and `experts` of ICEdit, `local` of ACE++.
        device: where they run.
        dtype: their precision.
        whole: whether a role fits on the device; else editkit takes a preset, diffusers goes layer by layer.
        output: folder for the pictures.
        loading: further loading options, by role.
        sizes: of the pictures for Kontext, for ICEdit's halves and for ACE++.
        steps: of the edits that a person looks at; the methods' own where None.
    """

    kontext: str
    fill: str
    adapters: Mapping[str, Path]
    device: str
    dtype: torch.dtype
    whole: bool
    output: Path
    loading: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = ((1248, 832), (512, 336), (768, 512))
    steps: int | None = None

    def editor(self, source: str, options: Mapping[str, Mapping[str, Any]]) -> editkit.Editor:
        preset = {} if self.whole else {"low_memory": "auto"}
        return editkit.load(source, self.device, self.dtype, options=options, **preset, **self.loading)

    def diffusers(
        self, cls: Any, source: str, picture: Image.Image, lora: Path | None = None, **arguments: Any
    ) -> Tensor:
        """Latents of a pipeline that diffusers loads by itself."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
        built = cls.from_pretrained(source, torch_dtype=self.dtype, local_files_only=True)
        if lora is not None:
            built.load_lora_weights(lora.parent, weight_name=lora.name)
        if self.whole:
            built.to(self.device)
        else:
            built.enable_sequential_cpu_offload(device=self.device)
        built.set_progress_bar_config(disable=True)
        usual = {
            "width": picture.width,
            "height": picture.height,
            "num_inference_steps": STEPS,
            "generator": torch.Generator().manual_seed(SEED),
            "max_sequence_length": LENGTH,
            "output_type": "latent",
        }
        made: Tensor = built(image=picture, **(usual | arguments)).images.cpu()
        return made


def photo(size: tuple[int, int]) -> Image.Image:
    """The photograph at a size that no method has to change."""
    with Image.open(PHOTO) as opened:
        return opened.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def kontext(weights: Weights) -> None:
    """An edit with Kontext, and its first steps in diffusers."""
    picture = photo(weights.sizes[0])
    editor = weights.editor(weights.kontext, {"kontext": {"sizes": "exact"}})
    asked = EditRequest(image=picture, instruction=INSTRUCTION, seed=SEED, steps=STEPS, guidance=2.5)
    _edited(weights, "kontext", editor, picture, INSTRUCTION)
    mine = latents(editor, asked)[1].cpu()
    del editor
    theirs = weights.diffusers(
        FluxKontextPipeline, weights.kontext, picture, prompt=INSTRUCTION, guidance_scale=2.5,
        _auto_resize=False, max_area=picture.width * picture.height,
    )  # fmt: skip
    _compare("kontext", mine, theirs)


def icedit(weights: Weights) -> None:
    """An edit with ICEdit's LoRA, its first steps in diffusers, and an edit with its LoRA-MoE."""
    picture, lora = photo(weights.sizes[1]), weights.adapters["lora"]
    options = {"width": picture.width}
    editor = weights.editor(weights.fill, {"icedit": options | {"adapter": str(lora)}})
    asked = EditRequest(
        image=picture, instruction=INSTRUCTION, method="icedit", seed=SEED, steps=STEPS, guidance=50.0
    )
    first = _edited(weights, "icedit", editor, picture, INSTRUCTION)
    mine = latents(editor, asked)[1].cpu()
    method = registry.method("icedit")
    conditioner = method.conditioner(editor.backbone, config.build(method.config, options))
    (prompt,) = conditioner.prompts([INSTRUCTION])
    experts = editor.configured({"icedit": options | {"adapter": str(weights.adapters["experts"])}})
    second = _edited(weights, "icedit", experts, picture, INSTRUCTION, name="icedit-moe")
    assert difference(first, second) > 0
    del editor, experts
    sides = 2 * picture.width, picture.height
    wide, right = Image.new("RGB", sides), Image.new("L", sides)
    for left in (0, picture.width):
        wide.paste(picture, (left, 0))
    right.paste(255, (picture.width, 0, *sides))
    theirs = weights.diffusers(
        FluxFillPipeline, weights.fill, wide, lora, prompt=prompt, mask_image=right, guidance_scale=50.0
    )
    _compare("icedit", mine, theirs)


def aceplus(weights: Weights) -> None:
    """An edit with ACE++'s LoRA under a mask, which keeps the rest, and its first steps in diffusers."""
    picture, lora = photo(weights.sizes[2]), weights.adapters.get("local")
    hole = mask(*picture.size)
    given = {"mask": hole, "task": "repainting"}
    editor = weights.editor(weights.fill, {"aceplus": {"adapter": None if lora is None else str(lora)}})
    made = _edited(weights, "aceplus", editor, picture, PAINTED, **given)
    black = Image.new("RGB", picture.size)
    assert difference(*(Image.composite(black, each, hole) for each in (made, picture))) == 0
    asked = EditRequest(
        image=picture, instruction=PAINTED, method="aceplus", seed=SEED, steps=STEPS, guidance=50.0, **given
    )
    planned, mine = latents(editor, asked)
    noise = planned.start.x_BLC
    del editor, planned
    theirs = weights.diffusers(
        FluxFillPipeline, weights.fill, picture, lora,
        prompt=PAINTED, mask_image=hole, guidance_scale=50.0, latents=noise,
    )  # fmt: skip
    _compare("aceplus", mine.cpu(), theirs)


def full_model(weights: Weights) -> None:
    """An edit with ACE++'s full model under a mask, which diffusers has no pipeline for."""
    picture = photo(weights.sizes[2])
    hole = mask(*picture.size)
    editor = weights.editor(weights.fill, {"aceplus": {"model": "full", "adapter": None}})
    given = {"mask": hole, "task": "repainting", "name": "aceplus-full"}
    made = _edited(weights, "aceplus", editor, picture, PAINTED, **given)
    black = Image.new("RGB", picture.size)
    assert difference(*(Image.composite(black, each, hole) for each in (made, picture))) == 0


def _edited(
    weights: Weights, method: str, editor: editkit.Editor, picture: Image.Image, words: str,
    name: str = "", **given: Any,
) -> Image.Image:  # fmt: skip
    """The method's own edit with its own number of steps, for a person to look at."""
    start()
    result = editor.edit(picture, words, method, seed=SEED, steps=weights.steps, **given)
    made = result.image
    assert made is not None
    assert made.size == picture.size
    assert difference(made, picture) > 10
    file = weights.output / f"{name or method}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save(file)
    tell(f"{name or method}, {picture.width}x{picture.height}, {result.recipe['steps']} steps", str(file))
    return made


def _compare(what: str, mine: Tensor, theirs: Tensor) -> None:
    tell(f"{what}, latents after {STEPS} steps beside diffusers'", relative(mine, theirs))
    assert relative(mine, theirs) < CLOSE
