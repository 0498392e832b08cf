"""Outside the change not a bit differs; the change is found, toned and aligned."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import editkit
from backbones.flux import Flux
from editkit.imaging import canvas, images, registration
from editkit.inference import postprocess
from editkit.method import Method
from tests.pictures import difference, image, photo, shifted


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
    planned = canvas.add_left(canvas.fit((60, 80), size=(128, 128)), 128)
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
        assert torch.equal(canvas.dilate(mask, reach), pooled.bool())


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
    left = registration.measure(*(images.tensor(images.load_image(each)) for each in (source, aligned.image)))
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
