"""Each act runs a method through editkit, and the same through diffusers on the same seed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from diffusers import FluxFillPipeline, FluxKontextPipeline
from PIL import Image
from torch import Tensor

import editkit
from editkit import EditRequest
from tests.pictures import image
from tests.rehearsal.aceplus_acts import aceplus, aceplus_references, full_model
from tests.rehearsal.edits import (
    CLOSE,
    FAR,
    GUIDANCE,
    NEGATIVE,
    PROMPT,
    SEED,
    bare,
    compare,
    latents,
    mask,
    other,
    with_lora,
)
from tests.rehearsal.figures import relative, start, tell
from tests.rehearsal.networks import LENGTH
from tests.rehearsal.remembered import remembering
from tests.rehearsal.shortened import narrow_encoder, no_blocks
from tests.rehearsal.stage import Stage


def kontext(stage: Stage, editor: editkit.Editor, size: tuple[int, int]) -> None:
    """One step of an edit at one of Kontext's sizes."""
    picture = image(*size)
    asked = EditRequest(image=picture, instruction=PROMPT, seed=SEED, steps=1, guidance=GUIDANCE)
    start()
    with ExitStack() as stack:
        if stage.scale.shortened:
            stack.enter_context(narrow_encoder(editor))
            if size != stage.scale.sizes[0]:
                stack.enter_context(no_blocks(editor))
        networks = stack.enter_context(remembering(editor, "kontext"))
        planned, mine = latents(_kontext(editor, picture), asked)
        theirs = other(
            editor, FluxKontextPipeline, "kontext", picture,
            num_inference_steps=1, guidance_scale=GUIDANCE, _auto_resize=False, max_area=size[0] * size[1],
        )  # fmt: skip
    assert all(network.computed == 1 for network in networks)
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
    with remembering(editor, "kontext") as networks:
        _, mine = latents(editor.configured({"kontext": {"sizes": "exact", "true_cfg": 3.0}}), asked)
        theirs = other(
            editor, FluxKontextPipeline, "kontext", picture,
            num_inference_steps=1, guidance_scale=GUIDANCE, _auto_resize=False, max_area=side * side,
            negative_prompt=NEGATIVE, true_cfg_scale=3.0,
        )  # fmt: skip
    assert [network.computed for network in networks] in ([], [1, 2])
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


def icedit(stage: Stage, editor: editkit.Editor) -> None:
    """A LoRA in the released layout, experts that all are this LoRA, and experts that differ."""
    width, height = stage.scale.half, stage.scale.half * 3 // 8 // 16 * 16
    transformer, picture = editor.backbone.transformer("fill"), image(width, height)
    asked = EditRequest(image=picture, instruction=PROMPT, method="icedit", seed=SEED, steps=1)
    wide, right = Image.new("RGB", (2 * width, height)), Image.new("L", (2 * width, height))
    for left in (0, width):
        wide.paste(picture, (left, 0))
    right.paste(255, (width, 0, 2 * width, height))
    start()
    with ExitStack() as stack:
        if stage.scale.shortened:
            stack.enter_context(narrow_encoder(editor))
        stack.enter_context(remembering(editor))
        plain, equal, different = (
            _icedit(editor, asked, file)
            for file in (
                stage.lora(transformer), stage.equal_experts(transformer), stage.experts(transformer)
            )
        )  # fmt: skip
        theirs = with_lora(
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
