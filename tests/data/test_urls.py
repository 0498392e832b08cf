"""Parquet and tar shards at the URL of a real HTTP server, which gives ranges of bytes."""

from __future__ import annotations

import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from editkit import EditkitError
from editkit.data import webdataset
from editkit.data.check import check_dataset
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from tests.command_line import one_sentence
from tests.data.encoded import Encode, words_of
from tests.data.pairs import assert_pair, read

COLUMNS = {"source": "source.png", "answer": "answer.png", "instruction": "txt"}


class Ranges(SimpleHTTPRequestHandler):
    """Serves a folder, and parts of its files where a client asks for some."""

    breaks = 0
    """How many of the next requests end without a reply."""

    def do_GET(self) -> None:
        if Ranges.breaks:
            Ranges.breaks -= 1
            self.close_connection = True
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        start, size = int(wanted[1]), path.stat().st_size
        end = min(int(wanted[2] or size), size - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        self.send_header("Content-Length", str(end - start + 1))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        self.wfile.write(path.read_bytes()[start : end + 1])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A server of a folder; gives its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh ones, so that nothing is remembered from an earlier test."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "places"))


@pytest.mark.usefixtures("caches")
@pytest.mark.parametrize("streaming", [False, True])
def test_parquet(streaming: bool, folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pictures = {"source": "edit", "answer": "target"}
    row = {name: Image.open(folder / f"{file}.png") for name, file in pictures.items()}
    made = datasets.Dataset.from_list([row | {"instruction": "make it red"}] * 3)
    made.to_parquet(str(folder / "train.parquet"))
    with served(folder) as url:
        more = {"streaming": True, "count": 2} if streaming else {}
        records = read("huggingface", f"{url}/train.parquet", **more)
        assert len(records) == (2 if streaming else 3)
        assert_pair(records[1], folder)
        with pytest.raises(EditkitError, match=r"missing\.parquet") as error:
            read("huggingface", f"{url}/missing.parquet")
        one_sentence(str(error.value))


def shard(folder: Path, name: str) -> None:
    """Write a shard of two pairs."""
    parts = {"source.png": "edit.png", "answer.png": "target.png"}
    with tarfile.open(folder / f"{name}.tar", "w") as archive:
        for number in range(2):
            for column, file in parts.items():
                archive.add(folder / file, f"{name}{number}.{column}")
            member = tarfile.TarInfo(f"{name}{number}.txt")
            member.size = len(b"make it red")
            archive.addfile(member, BytesIO(b"make it red"))


@pytest.mark.usefixtures("caches")
def test_shards(folder: Path) -> None:
    for name in ("00000", "00001"):
        shard(folder, name)
    with served(folder) as url:
        for where, count in ((f"{url}/00001.tar", 2), (f"{url}/", 4)):
            for _ in range(2):  # the second time from the places that were kept
                records = read("webdataset", where, columns=COLUMNS)
                assert len(records) == count
                assert_pair(records[-1], folder)
        with pytest.raises(EditkitError, match=r"00002\.tar") as error:
            read("webdataset", f"{url}/00002.tar", columns=COLUMNS)
        one_sentence(str(error.value))


@pytest.mark.usefixtures("caches")
def test_no_record_is_left_out_as_the_network_fails(
    folder: Path, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is asked for again; where that is no use, a sentence ends the run, and the next goes on."""
    monkeypatch.setattr(webdataset, "WAITS", (0.01,) * 3)
    monkeypatch.setattr(Ranges, "breaks", 0)
    shard(folder, "00000")
    with served(folder) as url:
        records = dataset(DataConfig(name="webdataset", path=f"{url}/00000.tar", columns=COLUMNS))
        Ranges.breaks = 2
        assert_pair(records[0], folder)
        Ranges.breaks = 10_000
        for act in (encode, check_dataset):
            with pytest.raises(EditkitError, match=r"00000\.tar cannot be reached") as error:
                act(records)
            one_sentence(str(error.value))
        Ranges.breaks = 0
        assert words_of(encode(records)) == ["make it red"] * 2
