"""Each act runs a method through editkit, and the same through diffusers on the same seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxFillPipeline, FluxKontextPipeline
from PIL import Image
from torch import Tensor

import editkit
from editkit import EditRequest, adapters
from editkit.inference.inputs import prepare
from editkit.inference.pipeline import Pipeline, PlannedBatch, denoise, plan_batch
from tests import ROOT
from tests.parity.pipelines import pipeline
from tests.pictures import image
from tests.rehearsal.figures import relative, start, tell
from tests.rehearsal.networks import LENGTH, PUBLISHED
from tests.rehearsal.remembered import remembering
from tests.rehearsal.stage import Stage

SEED, GUIDANCE = 5, 2.5
SAME = 1e-3
"""Largest relative RMS of latents after one step, for which both do the very same arithmetic.

Later times are no such thing in bfloat16: editkit rounds t, as Black Forest Labs' sampler does, and diffusers
1000 t. Where these are not the same number, a network of random weights, which is not smooth in time, is far
off.
"""
CLOSE = 0.02
"""Largest one where the same is computed in another order, or rounded otherwise on the way."""
FAR = 0.05
"""Smallest one where an input was changed."""
WORDS = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
PROMPT = " ".join(itertools.islice(itertools.cycle(WORDS), LENGTH - 1))
"""As many words as T5 takes, before its end of sentence."""
NEGATIVE = "blue circle"


@torch.no_grad()
def latents(editor: editkit.Editor, request: EditRequest) -> tuple[PlannedBatch, Tensor]:
    """An edit of editkit's up to its latents."""
    editor.load(request)
    method = Pipeline(editor.backbone, *editor.method(request.method))
    planned = plan_batch(method, [prepare(request)])
    return planned, denoise(planned.velocity, planned.start, planned.times).x_BLC


def other(editor: editkit.Editor, cls: Any, role: str, picture: Image.Image, **arguments: Any) -> Tensor:
    """The same by diffusers' pipeline around the same networks."""
    usual = {
        "prompt": PROMPT,
        "width": picture.width,
        "height": picture.height,
        "generator": torch.Generator().manual_seed(SEED),
        "max_sequence_length": LENGTH,
        "output_type": "latent",
    }
    made: Tensor = pipeline(cls, editor.backbone, role)(image=picture, **(usual | arguments)).images
    return made


def compare(what: str, mine: Tensor, theirs: Tensor, bound: float | None = None) -> None:
    """Both are latents of a live network, and the same within the precision's error."""
    if bound is None:
        bound = SAME if mine.device.type == "cpu" else CLOSE  # elsewhere sums may have no fixed order
    assert bool(torch.isfinite(mine).all())
    assert float(mine.float().std()) > 0.3
    tell(what, relative(mine, theirs))
    assert relative(mine, theirs) < bound


@contextmanager
def bare(editor: editkit.Editor, role: str) -> Iterator[None]:
    """Take all adapters off a transformer afterwards."""
    yield
    for name in worn(editor, role):
        adapters.eject(editor.backbone.transformer(role), name)


def worn(editor: editkit.Editor, role: str) -> list[str]:
    """Names of the adapters on a transformer."""
    found = adapters.layers(editor.backbone.transformer(role))
    return sorted({name for layer in found for name in layer.r})


def mask(width: int, height: int) -> Image.Image:
    """White in the middle."""
    made = Image.new("L", (width, height))
    made.paste(255, (width // 4, height // 4, width * 3 // 4, height * 3 // 4))
    return made


# --- Kontext ---


def kontext(stage: Stage, editor: editkit.Editor, size: tuple[int, int]) -> None:
    """One step of an edit at one of Kontext's sizes."""
    picture = image(*size)
    asked = EditRequest(image=picture, instruction=PROMPT, seed=SEED, steps=1, guidance=GUIDANCE)
    start()
    with remembering(editor, "kontext"):
        planned, mine = latents(_kontext(editor, picture), asked)
        theirs = other(
            editor, FluxKontextPipeline, "kontext", picture,
            num_inference_steps=1, guidance_scale=GUIDANCE, _auto_resize=False, max_area=size[0] * size[1],
        )  # fmt: skip
    assert (planned.plan.canvas.width, planned.plan.canvas.height) == size
    assert planned.plan.conditioning.text.tokens_BTD.shape[1] == LENGTH
    compare(f"kontext {size[0]}x{size[1]}", mine, theirs)


def kontext_negative(stage: Stage, editor: editkit.Editor) -> None:
    """True classifier-free guidance."""
    side = stage.scale.side
    picture = image(side, side)
    asked = EditRequest(
        image=picture, instruction=PROMPT, seed=SEED, steps=1, guidance=GUIDANCE, negative=NEGATIVE
    )
    start()
    with remembering(editor, "kontext"):
        _, mine = latents(editor.configured({"kontext": {"sizes": "exact", "true_cfg": 3.0}}), asked)
        theirs = other(
            editor, FluxKontextPipeline, "kontext", picture,
            num_inference_steps=1, guidance_scale=GUIDANCE, _auto_resize=False, max_area=side * side,
            negative_prompt=NEGATIVE, true_cfg_scale=3.0,
        )  # fmt: skip
    compare(f"kontext, true CFG, {side}x{side}", mine, theirs)


def kontext_picture(stage: Stage, editor: editkit.Editor) -> None:
    """A whole edit with a mask and a reference, as large as its source."""
    side = stage.scale.side
    picture, hole = image(side - 3, side - 9), mask(side - 3, side - 9)
    chosen = editor.configured({"kontext": {"sizes": "exact"}})
    start()
    made = [
        chosen.edit(
            picture, PROMPT, seed=SEED, steps=1, mask=hole, references=[image(side // 2, side // 2, seed)]
        ).image
        for seed in (1, 2)
    ]
    black = Image.new("RGB", picture.size)
    assert Image.composite(black, made[0], hole).tobytes() == Image.composite(black, picture, hole).tobytes()
    assert len({each.tobytes() for each in (*made, picture)}) == 3
    tell(f"kontext, mask and reference, two pictures {side - 3}x{side - 9}", "whole edits")


def _kontext(editor: editkit.Editor, picture: Image.Image) -> editkit.Editor:
    preferred = picture.size in editor.backbone.sizes("kontext")
    return editor.configured({"kontext": {"sizes": "preferred" if preferred else "exact"}})


# --- ICEdit ---


def icedit(stage: Stage, editor: editkit.Editor) -> None:
    """A LoRA in the released layout, experts that all are this LoRA, and experts that differ."""
    width, height = stage.scale.half, stage.scale.half * 2 // 3 // 16 * 16
    transformer, picture = editor.backbone.transformer("fill"), image(width, height)
    asked = EditRequest(image=picture, instruction=PROMPT, method="icedit", seed=SEED, steps=1)
    wide, right = Image.new("RGB", (2 * width, height)), Image.new("L", (2 * width, height))
    for left in (0, width):
        wide.paste(picture, (left, 0))
    right.paste(255, (width, 0, 2 * width, height))
    start()
    with remembering(editor):
        plain, equal, different = (
            _icedit(editor, asked, file)
            for file in (
                stage.lora(transformer), stage.equal_experts(transformer), stage.experts(transformer)
            )
        )  # fmt: skip
        theirs = _with_lora(
            editor, stage.lora(transformer),
            lambda: other(
                editor, FluxFillPipeline, "fill", wide,
                mask_image=right, num_inference_steps=1, guidance_scale=50.0,
            ),
        )  # fmt: skip
    compare(f"icedit, LoRA, {2 * width}x{height}", plain, theirs)
    compare("icedit, experts that are the LoRA", equal, theirs, CLOSE)
    assert relative(different, equal) > FAR


def _icedit(editor: editkit.Editor, asked: EditRequest, file: Path) -> Tensor:
    """Latents under an adapter, which is taken off again."""
    assert isinstance(asked.image, Image.Image)
    options = {"width": asked.image.width, "template": "none", "adapter": str(file)}
    with bare(editor, "fill"):
        planned, made = latents(editkit.Editor(editor.backbone, {"icedit": options}), asked)
    assert planned.plan.canvas.width == 2 * asked.image.width
    return made


def icedit_negative(stage: Stage, editor: editkit.Editor) -> None:
    """True classifier-free guidance and a mask, in a whole edit of another shape."""
    half = stage.scale.side // 2
    picture, hole = image(half, half * 3 // 4), mask(half, half * 3 // 4)
    options = {"width": half // 16 * 16, "adapter": None, "true_cfg": 3.0}
    chosen = editor.configured({"icedit": options})
    given = {"method": "icedit", "seed": SEED, "steps": 1, "mask": hole}
    start()
    made = [chosen.edit(picture, NEGATIVE, negative=words, **given).image for words in (None, "", "red")]
    assert len({each.tobytes() for each in made}) == 3
    black = Image.new("RGB", picture.size)
    for each in made:
        assert Image.composite(black, each, hole).tobytes() == Image.composite(black, picture, hole).tobytes()
    tell(f"icedit, mask and true CFG, three pictures {picture.width}x{picture.height}", "whole edits")


# --- ACE++ ---


def aceplus(stage: Stage, editor: editkit.Editor) -> None:
    """A LoRA in the released layout, and a picture that is painted under a mask.

    diffusers reads that layout at FLUX.1's width alone; a smaller network goes without.
    """
    side, file = stage.scale.canvas, stage.ace() if stage.scale.width == PUBLISHED.width else None
    picture, hole = image(side, side), mask(side, side)
    options = {"max_tokens": side * side // 256, "adapter": None if file is None else str(file)}
    asked = EditRequest(
        image=picture, mask=hole, instruction=PROMPT, method="aceplus", task="repainting", seed=SEED, steps=1
    )
    start()
    with remembering(editor):
        with bare(editor, "fill"):
            planned, mine = latents(editkit.Editor(editor.backbone, {"aceplus": options}), asked)
        theirs = _with_lora(
            editor, file,
            lambda: other(
                editor, FluxFillPipeline, "fill", picture,
                mask_image=hole, num_inference_steps=1, guidance_scale=50.0, latents=planned.start.x_BLC,
            ),
        )  # fmt: skip
    assert (planned.plan.canvas.width, planned.plan.canvas.height) == (side, side)
    compare(f"aceplus{', LoRA' if file else ''}, mask, {side}x{side}", mine, theirs)


def aceplus_references(stage: Stage, editor: editkit.Editor) -> None:
    """A reference beside a masked picture, as the released script lays them out, through FluxFillPipeline."""
    side = stage.scale.side
    picture, hole, reference = image(side, side), mask(side, side), image(side // 2, side, 1)
    asked = EditRequest(
        image=picture, mask=hole, references=[reference], instruction=PROMPT,
        method="aceplus", task="local_reference", seed=SEED, steps=1,
    )  # fmt: skip
    start()
    planned, mine = latents(editor.configured({"aceplus": {"adapter": None}}), asked)
    wide, left = Image.new("RGB", (side * 3 // 2, side)), Image.new("L", (side * 3 // 2, side))
    wide.paste(reference, (0, 0))
    wide.paste(picture, (side // 2, 0))
    left.paste(hole, (side // 2, 0))
    theirs = other(
        editor, FluxFillPipeline, "fill", wide,
        mask_image=left, num_inference_steps=1, guidance_scale=50.0, latents=planned.start.x_BLC,
    )  # fmt: skip
    compare(f"aceplus, mask and reference, {wide.width}x{side}", mine, theirs)


@torch.no_grad()
def full_model(stage: Stage, editor: editkit.Editor) -> None:
    """448 channels, for which diffusers has no pipeline: its parts make the conditions, its network steps."""
    side, flux = stage.scale.side, editor.backbone
    picture, hole = image(side, side), mask(side, side)
    asked = EditRequest(
        image=picture, mask=hole, instruction=PROMPT, method="aceplus", task="repainting", seed=SEED, steps=1
    )
    options = {"model": "full", "encoding": "mode", "adapter": None, "scale": 0.0}
    start()
    planned, mine = latents(editor.configured({"aceplus": options}), asked)
    built = pipeline(FluxFillPipeline, flux, "ace")
    pixels = built.image_processor.preprocess(picture, height=side, width=side)
    holes = built.mask_processor.preprocess(hole, height=side, width=side)
    # The picture outside the mask, the content under it, the mask.
    shown = [_encoded(built, part) for part in (pixels * (1 - holes), pixels * holes)]
    packed, _ = built.prepare_mask_latents(
        holes, torch.zeros(1, 16, side // 8, side // 8), 1, 16, 1, side, side, flux.dtype, flux.device, None
    )
    conditions = torch.cat((*shown, packed), dim=-1)
    compare("aceplus, full model, conditions", planned.plan.conditioning.channel_BLC, conditions)
    embeds, pooled, text_ids = built.encode_prompt(
        prompt=PROMPT, prompt_2=None, max_sequence_length=LENGTH, device=flux.device
    )
    velocity = built.transformer(
        hidden_states=torch.cat((planned.start.x_BLC, conditions), dim=-1),
        timestep=torch.ones(1, device=flux.device, dtype=flux.dtype),
        guidance=torch.full((1,), 50.0, device=flux.device),
        encoder_hidden_states=embeds,
        pooled_projections=pooled,
        txt_ids=text_ids,
        img_ids=flux.grid_ids(side, side),
        return_dict=False,
    )[0]
    compare(f"aceplus, full model, {side}x{side}", mine, planned.start.x_BLC - velocity)


def _encoded(built: Any, pixels_BCHW: Tensor) -> Tensor:
    """Packed latents of a picture in [-1, 1], by the parts of diffusers' pipeline."""
    latents_BChw = built.vae.encode(pixels_BCHW.to(built.vae.device, built.vae.dtype)).latent_dist.mode()
    scaled_BChw = (latents_BChw - built.vae.config.shift_factor) * built.vae.config.scaling_factor
    return built._pack_latents(scaled_BChw, 1, 16, *scaled_BChw.shape[-2:])


def _with_lora(editor: editkit.Editor, file: Path | None, run: Callable[[], Tensor]) -> Tensor:
    """Run a pipeline under a LoRA that diffusers loads by itself."""
    if file is None:
        return run()
    built = pipeline(FluxFillPipeline, editor.backbone, "fill")
    built.load_lora_weights(file.parent, weight_name=file.name)
    try:
        return run()
    finally:
        built.unload_lora_weights()


ACTS: dict[str, Callable[[Stage, editkit.Editor], None]] = {
    "kontext, first size": lambda stage, editor: kontext(stage, editor, stage.scale.sizes[0]),
    "kontext, second size": lambda stage, editor: kontext(stage, editor, stage.scale.sizes[1]),
    "kontext, negative": kontext_negative,
    "kontext, mask and reference": kontext_picture,
    "icedit": icedit,
    "icedit, mask and negative": icedit_negative,
    "aceplus": aceplus,
    "aceplus, mask and reference": aceplus_references,
    "aceplus, full model": full_model,
}
"""All of them, for an editor that has every role."""
