"""A dataset's latents on disk: what is kept, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from editkit import EditkitError
from editkit.data.datasets import Dataset, dataset
from editkit.data.records import DataConfig, Record
from tests.data.encoded import Encode, tensors_of, words_of
from tests.pictures import image

ROW = {"source": "edit.png", "mask": "mask.png", "answer": "target.png", "instruction": "good"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("edit", "target", "mask")):
        image(64, 64, number).save(tmp_path / f"{name}.png")
    image(128, 64, 1).save(tmp_path / "wide.png")
    return tmp_path


def lines(folder: Path, rows: Sequence[dict[str, Any]]) -> Dataset:
    path = folder / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return dataset(DataConfig(name="jsonl", path=str(path)))


def test_bad_records_are_left_out_and_counted_each_time(encode: Encode, folder: Path) -> None:
    rows = [ROW, ROW | {"answer": "absent.png"}, ROW]
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 of 3 records were left out; the first: .*absent\.png"):
            filled = encode(lines(folder, rows))
        assert words_of(filled) == ["good", "good"]


def test_what_is_clear_is_learnt_as_white_and_counted(encode: Encode, folder: Path) -> None:
    for name, colour in (("clear", (9, 9, 9, 0)), ("white", (255, 255, 255, 255))):
        Image.new("RGBA", (64, 64), colour).save(folder / f"{name}.png")
    rows = [ROW | {"answer": "white.png"}, ROW | {"answer": "clear.png"}]
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 of 2 records have transparent pixels"):
            (bucket,) = encode(lines(folder, rows))
        assert torch.equal(*tensors_of(bucket)["x0_BLC"])


def test_answers_of_another_shape_than_their_sources_are_left_out(encode: Encode, folder: Path) -> None:
    rows = [ROW, {"source": "edit.png", "answer": "wide.png", "instruction": "bad"}]
    with pytest.warns(UserWarning, match=r"1 of 2 .*: record 1: .*\(source 64x64, answer 128x64\); cut or"):
        assert words_of(encode(lines(folder, rows))) == ["good"]


@pytest.mark.parametrize(
    ("source", "answer", "stretched"),
    [((50, 38), (1000, 750), False), ((100, 75), (51, 38), False), ((400, 300), (400, 308), True)],
)
def test_rounded_sides_are_no_other_shape(
    source: tuple[int, int], answer: tuple[int, int], stretched: bool
) -> None:
    before, after = (np.zeros((height, width, 3), np.uint8) for width, height in (source, answer))
    assert bool(Record(source=before, answer=after, instruction="").stretched()) is stretched


@pytest.mark.parametrize(
    ("method", "bad", "said"),
    [
        ("icedit", {}, r"no source under 'source'"),
        ("aceplus", {"source": "edit.png", "task": "strange"}, "strange"),
    ],
)
def test_records_that_a_method_cannot_arrange_are_left_out(
    encode: Encode, folder: Path, method: str, bad: dict[str, str], said: str
) -> None:
    bad = bad | {"answer": "target.png", "instruction": "bad"}
    with pytest.warns(UserWarning, match=f"2 of 4 records were left out; the first: .*record 1.*{said}"):
        filled = encode(lines(folder, [ROW, bad, ROW, bad]), method)
    assert words_of(filled) == ["good", "good"]
    with pytest.raises(EditkitError, match=f"1 of 1 records were left out; the first: .*record 0.*{said}"):
        encode(lines(folder, [bad]), method)


def test_loss_weights_are_kept_as_they_are(encode: Encode, folder: Path) -> None:
    (bucket,) = encode(lines(folder, [ROW]), "aceplus", mask_weight=7.0, loss="paper")
    tensors = tensors_of(bucket)
    assert float(tensors["weights_BL"].double().sum()) == pytest.approx(1, abs=1e-6)
    assert tensors["x0_BLC"].dtype == torch.bfloat16


def test_what_never_changes_is_stored_once(encode: Encode, folder: Path) -> None:
    """ICEdit's mask is the same for every record: 256 of the 320 channels beside the noise."""
    rows = [ROW | {"mask": "", "source": f"{name}.png", "instruction": name} for name in ("edit", "mask")]
    (bucket,) = encode(lines(folder, rows), "icedit")
    (chunk,) = (folder / "cache").rglob("*.safetensors")
    stored = load_file(chunk)
    assert stored["channel_BLC"].shape[-1] <= 64
    channel_BLC = tensors_of(bucket)["channel_BLC"]
    mask_BLC = channel_BLC[..., -256:]
    assert set(mask_BLC.unique().tolist()) == {0.0, 1.0}
    assert float(mask_BLC.float().mean()) == 0.5  # the right half


def test_fresh_latents_are_samples_that_hang_on_the_seed(encode: Encode, folder: Path) -> None:
    rows = [ROW | {"instruction": ["red", "make it red"]}, ROW]
    (mean,), (fresh,) = encode(lines(folder, rows)), encode(lines(folder, rows), fresh=True)
    assert not any(load_file(path) for path in (folder / "cache").glob("sizes-*/*.safetensors"))
    one, wordings = fresh.samples.read([0, 1], [1, 2])
    again, _ = fresh.samples.read([1, 0], [2, 1])
    other, _ = fresh.samples.read([0, 1], [3, 4])
    assert sorted(wordings) == [("good",), ("red", "make it red")]
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, again[name].flip(0), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(tensor, other[name], atol=1e-3)
        # A sample lies around the mean.
        apart = float((tensor.float() - tensors_of(mean)[name].float()).abs().mean())
        assert 0 < apart < 2 * float((tensor - other[name]).float().abs().mean())


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_latents_hang_on_the_encoder_alone(random_flux: Any, part: str) -> None:
    weight = getattr(random_flux.vae, part).conv_in.weight
    before, kept = random_flux.vae_hash(), weight.detach().clone()
    with torch.no_grad():
        weight[0, 0, 0, 0] += 1
        changed = random_flux.vae_hash() != before
        weight.copy_(kept)
    assert changed == (part == "encoder")
