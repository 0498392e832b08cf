"""Law: memory grows by an index of 64 bytes a record at most; rows stay on the disk."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from editkit.data import layouts
from editkit.data.columns import Rows
from editkit.data.records import DataConfig

WORDS = "make the red circle to the left of the two squares blue, and keep everything else as it is"
FIELDS = ("source", "answer", "instruction")


def names(number: int) -> tuple[str, str]:
    return f"pictures/{number:07d}-before.png", f"pictures/{number:07d}-after.png"


def lines(path: Path, count: int) -> None:
    rows = (zip(FIELDS, (*names(each), f"{each}: {WORDS}"), strict=True) for each in range(count))
    path.write_text("".join(json.dumps(dict(row)) + "\n" for row in rows))


def table(path: Path, count: int) -> None:
    rows = (",".join((*names(each), f'"{each}: {WORDS}"')) for each in range(count))
    path.write_text("\n".join((",".join(FIELDS), *rows)))


def separated(path: Path, count: int) -> None:
    path.write_text("".join("#;#".join((*names(each), f"{each}: {WORDS}")) + "\n" for each in range(count)))


def shard(path: Path, count: int) -> None:
    with tarfile.open(path, "w") as archive:
        for each in range(count):
            held = f"{each}: {WORDS}".encode()
            member = tarfile.TarInfo(f"{each:07d}.instruction")
            member.size = len(held)
            archive.addfile(member, io.BytesIO(held))


KINDS: dict[str, Callable[[Path, int], None]] = {
    "jsonl": lines,
    "table": table,
    "csv": separated,
    "webdataset": shard,
}


def rows_of(kind: str, path: Path) -> Rows:
    config = DataConfig(name=kind, path=str(path), fields=FIELDS)
    return layouts.LAYOUTS[kind](path, config)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_all_that_grows(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    held, counts = [], (500, 8_500)
    for count in counts:
        path = tmp_path / f"{count}.{'tar' if kind == 'webdataset' else kind}"
        KINDS[kind](path, count)
        tracemalloc.start()
        rows = rows_of(kind, path)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(rows) == count
        for each in (0, count - 1):
            words = rows[each]["instruction"]
            assert (words if isinstance(words, str) else words.decode()) == f"{each}: {WORDS}"
    assert (held[1] - held[0]) / (counts[1] - counts[0]) <= 64


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_row_of_a_table_is_found_whatever_ends_its_line(tmp_path: Path, end: str, mark: str) -> None:
    wanted = [{"answer": "ä.png", "instruction": "one"}, {"answer": "b.png", "instruction": "two\nlines ß"}]
    wanted.append({"answer": "c.png", "instruction": "three"})
    text = "\n".join(("answer,instruction", "ä.png,one", "", 'b.png,"two\nlines ß"', "c.png,three"))
    (tmp_path / "t.csv").write_bytes((mark + text.replace("\n", end)).encode())
    rows = pickle.loads(pickle.dumps(rows_of("table", tmp_path / "t.csv")))
    assert list(rows) == wanted
    assert [rows[place] for place in (2, 1, 0)] == wanted[::-1]
    assert rows[1:] == wanted[1:]
