"""A dataset's latents on disk: what is kept, what is left out, and what a run that was killed leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from editkit import EditkitError, config, registry
from editkit.data import latent_chunks
from editkit.data.buckets import Bucket
from editkit.data.datasets import Dataset, dataset
from editkit.data.latent_cache import LatentCache
from editkit.data.records import DataConfig, Record
from tests.pictures import image

Encode = Callable[..., list[Bucket]]
ROW = {"source": "edit.png", "mask": "mask.png", "answer": "target.png", "instruction": "good"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("edit", "target", "mask")):
        image(64, 64, number).save(tmp_path / f"{name}.png")
    image(128, 64, 1).save(tmp_path / "wide.png")
    return tmp_path


@pytest.fixture
def encode(random_flux: Any, tmp_path: Path) -> Encode:
    """A function that gives the buckets of records under a method."""

    def make(
        records: Dataset,
        name: str = "kontext",
        cache: str = "cache",
        share: tuple[int, int] = (0, 1),
        fresh: bool = False,
        **changed: Any,
    ) -> list[Bucket]:
        method = registry.method(name)
        options = config.build(method.config, changed)
        parts = method.conditioner(random_flux, options), method.trainer(random_flux, options)
        key = [name, changed, records.digest()]
        where = {"key": key, "folder": tmp_path / cache, "share": share, "fresh": fresh}
        return LatentCache(records, random_flux, *parts, **where).buckets()

    return make


def lines(folder: Path, rows: Sequence[dict[str, Any]]) -> Dataset:
    path = folder / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return dataset(DataConfig(name="jsonl", path=str(path)))


def words_of(filled: Sequence[Bucket]) -> list[str]:
    return [words for bucket in filled for each in bucket.samples.wordings() for words in each]


def tensors_of(bucket: Bucket) -> dict[str, torch.Tensor]:
    count = len(bucket)
    return bucket.samples.read(range(count), [0] * count)[0]


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
        ("icedit", {}, "icedit edits a picture and none was given"),
        ("aceplus", {"source": "edit.png", "task": "strange"}, "strange"),
    ],
)
def test_records_that_a_method_cannot_arrange_are_left_out(
    encode: Encode, folder: Path, method: str, bad: dict[str, str], said: str
) -> None:
    bad = bad | {"answer": "target.png", "instruction": "bad"}
    with pytest.warns(UserWarning, match=f"2 of 4 records were left out; the first: record 1: .*{said}"):
        filled = encode(lines(folder, [ROW, bad, ROW, bad]), method)
    assert words_of(filled) == ["good", "good"]
    with pytest.raises(EditkitError, match=f"1 of 1 records were left out; the first: record 0: .*{said}"):
        encode(lines(folder, [bad]), method)


def test_loss_weights_are_kept_as_they_are(encode: Encode, folder: Path) -> None:
    (bucket,) = encode(lines(folder, [ROW]), "aceplus", mask_weight=7.0, loss="paper")
    tensors = tensors_of(bucket)
    assert float(tensors["weights_BL"].double().sum()) == pytest.approx(1, abs=1e-6)
    assert tensors["x0_BLC"].dtype == torch.bfloat16


class Drawn:
    """Pictures of two sizes on one canvas, told apart by their place; each one read is noted in a file."""

    def __init__(self, folder: Path, stop: int | None = None) -> None:
        self.notes, self.stop = folder / "read", stop

    def __len__(self) -> int:
        return 19

    def __getitem__(self, index: int) -> Record:
        if index == self.stop:
            raise RuntimeError("as if the run was killed")
        with self.notes.open("a") as file:
            file.write(f"{index}\n")
        side = 32 if index % 2 else 48
        picture = np.full((side, side, 3), index, np.uint8)
        return Record(source=picture, answer=255 - picture, instruction=str(index))

    def digest(self) -> str:
        return ""

    def read(self) -> set[int]:
        """The places that were read since this was asked for."""
        found = set(map(int, self.notes.read_text().split()))
        self.notes.unlink()
        return found


def test_what_was_encoded_before_a_kill_is_not_encoded_again(
    encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_chunks, "CHUNK", 4)
    with pytest.raises(RuntimeError, match="as if the run was killed"):
        encode(Drawn(tmp_path, stop=18))
    (chunks,) = (tmp_path / "cache").glob("*.chunks")
    assert len(list(chunks.iterdir())) == 4
    (chunks / ".0123456789abcdef.part").write_bytes(b"half")
    (chunks / "half.safetensors").write_bytes(b"half")
    records = Drawn(tmp_path)
    records.read()
    resumed = encode(records)
    assert records.read() == {0, *range(16, 19)}  # the first says how its bucket is laid out
    assert [kept.suffix for kept in (tmp_path / "cache").iterdir()] == [""]
    whole = encode(records, cache="other")
    assert words_of(resumed) == words_of(whole)
    assert sorted(map(int, words_of(resumed))) == list(range(19))
    for one, other in zip(resumed, whole, strict=True):
        assert_near(tensors_of(one), tensors_of(other))


def assert_near(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Some CPUs multiply otherwise by where numbers lie in memory, which can be a step of bf16."""
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=2**-7, atol=2**-8)
        assert float((tensor != theirs[name]).float().mean()) < 1e-4


def test_processes_share_the_encoding(
    encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record is read by one of two processes, and the buckets are as from one."""
    monkeypatch.setattr(latent_chunks, "SPAN", 3)
    records = Drawn(tmp_path)
    whole = encode(records, cache="alone")
    records.read()
    other = get_context("fork").Process(target=encode, args=(records,), kwargs={"share": (1, 2)})
    other.start()
    found = encode(records, share=(0, 2))
    other.join()
    assert other.exitcode == 0
    notes = Counter((tmp_path / "read").read_text().split())
    assert all(notes[str(index)] == 1 for index in range(1, 19))  # 0 says how its bucket is laid out
    assert sorted(words_of(found)) == sorted(words_of(whole))
    for one, alone in zip(found, whole, strict=True):
        assert_near(tensors_of(one), tensors_of(alone))


@pytest.mark.parametrize("records", [1, 5, 64, 300, 513, 600, 50_000])
@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_shares_are_of_one_size(records: int, processes: int) -> None:
    """They differ by a record for each 256 at most, and hold neighbours."""
    shares = np.stack([latent_chunks.share_of(records, each, processes) for each in range(processes)])
    assert (shares.sum(0) == 1).all()
    sizes = shares.sum(1)
    assert sizes.max() - sizes.min() <= 1 + sizes.min() // latent_chunks.SPAN
    turns = (np.diff(shares.astype(int)) == 1).sum(1)
    assert turns.max() <= 1 + sizes.max() // latent_chunks.SPAN


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
