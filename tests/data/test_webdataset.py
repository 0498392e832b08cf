"""Training pairs from WebDataset shards, on disk and at URLs."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from editkit import EditkitError
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from tests.data.pairs import assert_pair, read


def test_webdataset_shards(folder: Path) -> None:
    for shard in range(2):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for place in range(2):
                parts = {
                    "source.png": (folder / "edit.png").read_bytes(),
                    "answer.png": (folder / "target.png").read_bytes(),
                    "txt": "\ufeffmake it red\n".encode(),
                    "json": json.dumps({"kind": "colour", "txt": "of no account"}).encode(),
                }
                for part, data in parts.items():
                    member = tarfile.TarInfo(f"{shard}{place}.{part}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    columns = {"source": "source.png", "answer": "answer.png", "instruction": "txt"}
    records = read("webdataset", folder, columns=columns)
    assert len(records) == 4
    for record in records:
        assert_pair(record, folder)
        assert record.kind == "colour"
    assert read("webdataset", folder, columns=columns, types=["colour"])
    assert len(read("webdataset", folder / "00001.tar", columns=columns)) == 2


def test_words_in_the_json_of_a_shard(folder: Path) -> None:
    told = (b'{"instruction": "make it red"}', b"{", b"[]")
    with tarfile.open(folder / "0.tar", "w") as archive:
        for place, data in enumerate(told):
            for part, held in (("png", (folder / "target.png").read_bytes()), ("json", data)):
                member = tarfile.TarInfo(f"{place}.{part}")
                member.size = len(held)
                archive.addfile(member, io.BytesIO(held))
    records = dataset(
        DataConfig(name="webdataset", path=str(folder), columns={"answer": "png", "source": ""})
    )
    assert records[0].instruction == "make it red"
    with pytest.raises(EditkitError, match=r"record 1 of .* cannot be read"):
        records[1]
    with pytest.raises(EditkitError, match=r"record 2 of .* has no instruction under 'instruction'"):
        records[2]
    with pytest.raises(EditkitError, match=r"record 0 of .* cannot be read"):  # whatever its kind may be
        read("webdataset", folder, columns={"answer": "png", "source": ""}, types=["colour"])


def test_shards_are_read_at_urls_and_are_told_apart(folder: Path) -> None:
    """memory:// is fsspec's own; s3:// and gs:// are opened alike by their packages."""
    fsspec = pytest.importorskip("fsspec")

    def shard(names: tuple[str, ...]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in names:
                held = (folder / "target.png").read_bytes() if name.endswith("png") else name.encode()
                member = tarfile.TarInfo(name)
                member.size = len(held)
                archive.addfile(member, io.BytesIO(held))
        return buffer.getvalue()

    system = fsspec.filesystem("memory")
    long = "folder/" + 120 * "x"  # longer than a plain header holds
    system.pipe("/shards/0.tar", shard(("a.png", "a.txt", f"{long}.png", f"{long}.txt")))
    system.pipe("/shards/1.tar", shard(("a.png", "a.txt")))
    chosen = DataConfig(
        name="webdataset",
        path="memory://shards",
        columns={"answer": "png", "instruction": "txt"},
        text_to_image=True,
    )
    records = dataset(chosen)
    assert [records[place].instruction for place in range(len(records))] == ["a.txt", f"{long}.txt", "a.txt"]
    before = records.digest()
    assert dataset(chosen).digest() == before
    system.pipe("/shards/1.tar", shard(("b.png", "b.txt", "c.png", "c.txt")))
    changed = dataset(chosen)
    assert len(changed) == 4
    assert changed.digest() != before
    system.pipe("/shards/1.tar", shard(("b.png", "c.png", "b.txt", "c.txt")))
    with pytest.raises(EditkitError, match=r"holds the files of '/b' apart .* --sort=name"):
        dataset(chosen)
    with pytest.raises(EditkitError, match=r"cannot be read \(.*\); give tar files"):
        dataset(DataConfig(name="webdataset", path="nowhere://shards"))
