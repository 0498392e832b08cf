"""Outside the change not a bit differs, the change is found, toned and aligned."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from conftest import difference, image, photo
from PIL import Image
from torch import Tensor

import editkit
from backbones.flux import Flux
from editkit import shapesworld as world
from editkit.imaging import canvas, images, registration
from editkit.inference import postprocess
from editkit.method import Method
from editkit.types import Alignment


@pytest.fixture(scope="module")
def editor(random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux)


def levels(picture: Image.Image) -> np.ndarray:
    return np.array(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize("masked", [True, False], ids=["mask", "inferred"])
@pytest.mark.parametrize("method", editkit.methods(), ids=lambda method: method.name)
def test_pixels_outside_the_change_are_the_sources(
    method: Method, masked: bool, editor: editkit.Editor
) -> None:
    # A random network repaints everything; what it painted before, it paints much the same again.
    picture = editor.edit(image(97, 61), "make it blue", method.name, steps=2, seed=2).image
    picture.paste(image(97, 61).crop((0, 0, 40, 61)))
    mask = None
    if masked:
        mask = Image.new("L", picture.size)
        mask.paste(255, (20, 10, 70, 50))
    asked = {"steps": 2, "seed": 2, "mask": mask}
    result = editor.edit(picture, "make it blue", method.name, preserve=True, **asked)
    outside = np.array(result.change) <= 127
    assert 100 < outside.sum() < outside.size - 100
    if masked:
        assert (outside == (np.array(mask) == 0)).all()
    assert (levels(result.image)[outside] == levels(picture)[outside]).all()
    assert (levels(result.image)[~outside] != levels(picture)[~outside]).any()
    # Without being asked to, the network does not keep them.
    free = editor.edit(picture, "make it blue", method.name, preserve=False, **asked)
    assert (levels(free.image)[outside] != levels(picture)[outside]).any()
    assert (np.array(free.change) <= 127).any()


def test_no_source_no_change(editor: editkit.Editor) -> None:
    result = editor.edit(None, "a red circle", steps=1)
    assert (result.change, result.alignment) == (None, None)


# --- Where the change is ---


def test_suspected_cells_count_smaller_differences() -> None:
    source = photo(128, 96)
    edited = source.clone()
    edited[..., 20:40, 20:40] += 0.06
    edited[..., 60:80, 90:110] += 0.06
    suspects = torch.zeros(1, 1, 96, 128, dtype=torch.bool)
    suspects[..., :48, :64] = True
    assert postprocess.change(source, edited).sum() == 0
    found = postprocess.change(source, edited, suspects)
    expected = torch.zeros_like(found)
    expected[..., 18:42, 18:42] = 1
    assert torch.equal(found, expected)


def test_suspects_are_latents_that_stand_out() -> None:
    """Of the answer's panel, in the pixels of a source that was scaled and padded to it."""
    planned = canvas.beside(canvas.fit((60, 80), size=(128, 128)), 128)
    source_BLC = torch.randn(1, 64, 64)
    answer_BLC = source_BLC + 0.3 * torch.randn(1, 64, 64)  # what coding alone may make of any picture
    assert not postprocess.suspects(source_BLC, answer_BLC, planned).any()
    answer_BLC[0, 3 * 8 + 4] += 2
    found = postprocess.suspects(source_BLC, answer_BLC, planned)
    assert found.shape == (1, 1, 80, 60)
    rows, columns = (places.flatten() for places in torch.where(found[0, 0]))
    # Cell (3, 4) is pixels 48 to 63 down and 64 to 79 across, at 1.6 of the source's size, behind a padding.
    assert (rows.min(), rows.max()) == (30, 39)
    assert (columns.min(), columns.max()) == (30, 39)


def test_growing_is_what_pooling_does() -> None:
    mask = torch.rand(2, 1, 23, 31) > 0.9
    for reach in (1, 2, 3, 7):
        pooled = torch.nn.functional.max_pool2d(mask.float(), 2 * reach + 1, stride=1, padding=reach)
        assert torch.equal(canvas.grown(mask, reach), pooled.bool())


# --- Tone ---


def painted(source: Tensor, tone: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """An edit that changes a box, and shifts every pixel's colour a little; and the box as a mask."""
    edited = source + torch.tensor(tone)[:, None, None]
    edited[..., 30:60, 40:80] = 0.5
    mask = torch.zeros(1, 1, *source.shape[-2:])
    mask[..., 28:62, 38:82] = 1
    return edited, mask


def test_tone_is_matched_on_the_ring() -> None:
    source = photo(128, 96) * 0.6 + 0.2
    tone = (0.05, -0.04, 0.02)
    edited, mask = painted(source, tone)
    kept = postprocess.kept(source, edited, mask)
    expected = 0.5 - torch.tensor(tone)[:, None, None].expand(3, 26, 36)
    assert torch.allclose(kept[0, :, 32:58, 42:78], expected, atol=1e-3)
    assert torch.equal(kept[(mask < 0.5).expand_as(kept)], source[(mask < 0.5).expand_as(kept)])
    # A fifth of the ring that was painted anew does not show.
    edited[..., 20:28, 38:60] = 1
    kept = postprocess.kept(source, edited, mask)
    assert torch.allclose(kept[0, :, 32:58, 42:78], expected, atol=0.01)


@pytest.mark.parametrize("case", ["no ring", "small ring", "another picture", "large shift"])
def test_tone_is_left_alone_where_the_ring_says_nothing(case: str) -> None:
    source = photo(128, 96) * 0.6 + 0.2
    edited, mask = painted(source, (0.05, 0.05, 0.05))
    if case == "no ring":
        mask = torch.ones_like(mask)
    elif case == "small ring":
        mask = torch.ones_like(mask)
        mask[..., :8, :7] = 0
    elif case == "another picture":
        edited = photo(128, 96, 3)
    else:
        edited, mask = painted(source, (0.2, 0.0, 0.0))
    assert postprocess.toned(source, edited, mask) is edited


# --- Alignment ---

MOTIONS = [(0.3, 0.0, 1, 1), (0.6, -0.4, 1, 1), (-1.5, 2.5, 1, 1), (4.2, -3, 1, 1), (1, 0.5, 1.02, 0.99)]


def shifted(picture: Tensor, right: float, down: float, wider: float = 1, taller: float = 1) -> Tensor:
    """Moved so that `measure` finds just this."""
    back = Alignment(right=-right / wider, down=-down / taller, wider=1 / wider, taller=1 / taller, blocks=0)
    return registration.undone(picture, back)


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("size", [(160, 120), (700, 520)])
def test_motion_is_measured_outside_the_change(motion: tuple[float, ...], size: tuple[int, int]) -> None:
    source = photo(*size)
    width, height = size
    edited = source.clone()
    edited[..., : height // 3, : width // 3] = photo(width // 3, height // 3, 1)
    found = registration.measure(source, shifted(edited, *motion))
    assert found is not None
    assert (found.right, found.down) == pytest.approx(motion[:2], abs=0.03)
    assert found.wider * width / 2 == pytest.approx(motion[2] * width / 2, abs=0.1)
    assert found.taller * height / 2 == pytest.approx(motion[3] * height / 2, abs=0.1)


def test_a_mask_takes_its_pixels_out() -> None:
    """Three quarters that move one way are the edit's where the mask says so."""
    source = photo(160, 160)
    edited, mask = source.clone(), torch.zeros(1, 1, 160, 160)
    edited[..., :, 40:], mask[..., :, 40:] = shifted(source, 3, 0)[..., :, 40:], 1
    found = registration.measure(source, edited)
    assert found is not None
    assert found.right == pytest.approx(3, abs=0.1)
    found = registration.measure(source, edited, mask)
    assert found is None or abs(found.right) < 0.1


def test_nothing_to_see_is_no_alignment() -> None:
    flat = torch.full((1, 3, 96, 96), 0.4)
    assert registration.measure(flat, flat) is None
    assert registration.measure(photo(96, 96), photo(96, 96, 1)) is None
    assert registration.measure(photo(4, 4), photo(4, 4)) is None


def test_real_edits_and_by_how_much_they_were_moved() -> None:
    """On top of what the network moved itself."""
    tiny, seen = editkit.load("tiny", "cpu"), 0
    for seed in (0, 2, 3, 5, 6):
        source = Image.fromarray(world.render(world.draw_scene(random.Random(seed))))
        result = tiny.edit(source, "add a blue star in the top left", steps=4)
        before, after = (images.tensor(images.load(each)) for each in (source, result.image))
        base = registration.measure(before, after)
        if base is None or result.alignment is None:
            continue
        # Of the picture before it was rounded to 256 levels.
        assert base.shift == pytest.approx(result.alignment.shift, abs=0.05)
        for right, down in ((0.7, -0.5), (2.25, 1.5)):
            found = registration.measure(before, shifted(after, right, down))
            if found is None:
                continue
            assert found.right - base.right == pytest.approx(right, abs=0.3)
            assert found.down - base.down == pytest.approx(down, abs=0.3)
            seen += 1
    assert seen >= 4


@pytest.fixture(scope="module")
def shifting(random_flux: Flux) -> editkit.Editor:
    """A backbone whose decoder gives the source in `image(128, 128)` back, 2.25 and -1.5 pixels off."""
    flux = copy.copy(random_flux)
    moved_1CHW = shifted(photo(128, 128), 2.25, -1.5)
    moved_1CHW[..., 40:60, 70:100] = 0.1
    flux.decode = lambda tokens_BLC, width, height: moved_1CHW[..., -width:].expand(
        len(tokens_BLC), -1, -1, -1
    )
    return editkit.Editor(flux)


def test_a_shift_is_told_and_corrected(shifting: editkit.Editor) -> None:
    source = image(128, 128)
    with pytest.warns(UserWarning, match=r"shifted by \+2\.2, -1\.5 pixels .*`align` corrects this"):
        plain = shifting.edit(source, "make it blue", steps=1)
    assert plain.alignment is not None
    assert (plain.alignment.right, plain.alignment.down) == pytest.approx((2.25, -1.5), abs=0.05)
    with pytest.warns(UserWarning, match="this was corrected"):
        aligned = shifting.edit(source, "make it blue", steps=1, align=True)
    assert aligned.alignment == plain.alignment
    assert (plain.recipe["align"], aligned.recipe["align"]) == (False, True)
    still = np.ones((128, 128), dtype=bool)
    still[34:66, 64:106] = still[:4] = still[-4:] = still[:, :4] = still[:, -4:] = False
    apart = [np.abs(levels(each.image) - levels(source))[still].mean() for each in (plain, aligned)]
    assert apart[1] < 0.4 * apart[0]
    left = registration.measure(*(images.tensor(images.load(each)) for each in (source, aligned.image)))
    assert left is not None
    assert left.shift < 0.05
    # What was aligned needs less of it pasted, and outside the change nothing differs.
    with pytest.warns(UserWarning, match="corrected"):
        kept = shifting.edit(source, "make it blue", steps=1, align=True, preserve=True)
    outside = np.array(kept.change) <= 127
    assert (levels(kept.image)[outside] == levels(source)[outside]).all()
    assert outside.mean() > 0.8 > (np.array(plain.change) <= 127).mean() - 0.2
    assert difference(kept.image, source) > 50


def test_many_edits_are_aligned_like_single_ones(shifting: editkit.Editor) -> None:
    asked = [
        editkit.EditRequest(image=image(128, 128), instruction="make it blue", steps=1, align=align)
        for align in (True, False)
    ]
    aligned, plain = shifting.edit_many(asked)
    assert any("this was corrected" in note for note in aligned.notes)
    assert any("`align` corrects" in note for note in plain.notes)
    assert difference(aligned.image, plain.image) > 10


def test_an_aligned_edit_says_nothing(random_flux: Flux) -> None:
    flux = copy.copy(random_flux)
    flux.decode = lambda tokens_BLC, width, height: photo(128, 128)[..., -width:]
    result = editkit.Editor(flux).edit(image(128, 128), "make it blue", steps=1)
    assert result.notes == ()
    assert result.alignment is not None
    assert result.alignment.shift < 0.02
    assert np.array(result.change).max() == 0
