"""Training pairs from WebDataset shards, on disk and at URLs."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from editkit import EditkitError, config
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.train import preflight
from editkit.train.settings import EditTrainConfig
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


def test_words_and_classes_are_text_whatever_their_members_end_in(folder: Path) -> None:
    parts = {
        "source.png": (folder / "edit.png").read_bytes(),
        "answer.png": (folder / "target.png").read_bytes(),
        "prompt": b"make it red\n",
        "cls": b"3\n",  # webdataset's own ending of a class
    }
    with tarfile.open(folder / "0.tar", "w") as archive:
        for part, data in parts.items():
            member = tarfile.TarInfo(f"0.{part}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    columns = {"source": "source.png", "answer": "answer.png", "instruction": "prompt", "kind": "cls"}
    (record,) = read("webdataset", folder, columns=columns, types=["^3$"], tasks={"3": "recolour"})
    assert_pair(record, folder)
    assert (record.kind, record.task) == ("3", "recolour")
    with pytest.raises(EditkitError, match=r"record 0 of .* cannot be read"):
        read("webdataset", folder, columns=columns | {"instruction": "answer.png"})


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


def packed(path: Path, *rows: dict[str, bytes], mode: str = "w") -> Path:
    """A shard of these rows, whose stems are numbers, with what macOS adds in front of each member."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for number, row in enumerate(rows):
            for column, data in row.items():
                for name, held in ((f"._{number}.{column}", b"of no account"), (f"{number}.{column}", data)):
                    member = tarfile.TarInfo(f"{path.name.partition('.')[0]}/{name}")
                    member.size = len(held)
                    archive.addfile(member, io.BytesIO(held))
    return path


def words(path: Path | str, **more: Any) -> list[str]:
    columns = {"answer": "png", "instruction": "txt"}
    return [
        each.instruction for each in read("webdataset", path, columns=columns, text_to_image=True, **more)
    ]


@pytest.mark.parametrize(("ending", "mode"), [("tar.gz", "w:gz"), ("tgz", "w:gz"), ("tar.xz", "w:xz")])
def test_compressed_shards(folder: Path, ending: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "kept"))
    answer = (folder / "target.png").read_bytes()
    rows = [{"png": answer, "txt": name} for name in (b"one", b"two", b"three")]
    shard = packed(folder / "shards" / f"0.{ending}", *rows, mode=mode)
    for path in (shard, shard.parent):
        for _ in range(2):
            assert words(path) == ["one", "two", "three"]
    packed(shard, *rows[1:], mode=mode)
    assert words(shard) == ["two", "three"]
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(EditkitError, match=r"The shard .* cannot be read"):
        words(shard)
    shard.rename(folder / "0.tar")
    with pytest.raises(EditkitError, match=r"The shard .* cannot be read"):
        words(folder / "0.tar")


def training(path: str, folder: Path) -> EditTrainConfig:
    """A run on shards."""
    values = {"data": {"name": "webdataset", "path": path}, "fit": {"output": str(folder / "out")}}
    return config.build(EditTrainConfig, values)


@pytest.mark.parametrize("url", [False, True])
def test_patterns_of_shards(folder: Path, url: bool) -> None:
    answer = (folder / "target.png").read_bytes()
    for name in ("a-008", "a-009", "a-010", "b-008", "c[1]"):
        packed(folder / "shards" / f"{name}.tar", {"png": answer, "txt": name.encode()})
    start = f"file://{folder}/shards" if url else f"{folder}/shards"
    for pattern, found in {
        "a-{008..010}.tar": ["a-008", "a-009", "a-010"],
        "a-{9..9}.tar": None,
        "{b,a}-008.tar": ["b-008", "a-008"],
        "?-00{8,9}.tar": ["a-008", "b-008", "a-009"],
        "a-*.tar": ["a-008", "a-009", "a-010"],
        "c[1].tar": ["c[1]"],
    }.items():
        if found is None:
            with pytest.raises(EditkitError, match=r"The shard .* cannot be read .*a-9\.tar"):
                words(f"{start}/{pattern}")
            continue
        assert words(f"{start}/{pattern}") == found
        preflight.check_settings(training(f"{start}/{pattern}", folder))
    with pytest.raises(EditkitError, match="do not exist"):
        preflight.check_settings(training(f"{folder}/shards/d-{{0..9}}.tar", folder))


def test_large_letters_and_hidden_members(folder: Path) -> None:
    row = {"Source.PNG": (folder / "edit.png").read_bytes(), "PNG": (folder / "target.png").read_bytes()}
    row |= {"TXT": b"make it red", "JSON": json.dumps({"Kind": "colour"}).encode()}
    shard = packed(folder / "shards" / "0.TAR", row, row)
    columns = {"source": "Source.PNG", "answer": "png", "instruction": "txt", "kind": "Kind"}
    for path in (shard, shard.parent):
        records = read("webdataset", path, columns=columns)
        assert len(records) == 2
        for record in records:
            assert_pair(record, folder)
            assert record.kind == "colour"
