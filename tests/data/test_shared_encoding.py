"""Encoding that is stopped, goes on, and is shared by processes."""

from __future__ import annotations

from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from editkit.data import latent_chunks
from tests.data.encoded import Drawn, Encode, assert_near, tensors_of, words_of


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


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_any_number_of_processes_goes_on_where_others_were_stopped(
    before: int, after: int, encode: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the disk is taken, whoever encoded it; each other record is read once."""
    monkeypatch.setattr(latent_chunks, "SPAN", 3)
    monkeypatch.setattr(latent_chunks, "CHUNK", 2)
    whole, records = encode(Drawn(tmp_path), cache="alone"), Drawn(tmp_path)
    for process in range(before):
        own = np.flatnonzero(latent_chunks.share_of(19, process, before))
        with pytest.raises(RuntimeError, match="as if the run was killed"):
            encode(Drawn(tmp_path, stop=int(own[-2])), share=(process, before))
    (chunks,) = (tmp_path / "cache").glob("*.chunks")
    held = {index for _, header in latent_chunks.headers(chunks) for index in header["indices"]}
    assert 4 <= len(held) < 19
    records.read()
    others = [
        get_context("fork").Process(target=encode, args=(records,), kwargs={"share": (each, after)})
        for each in range(1, after)
    ]
    for other in others:
        other.start()
    found = encode(records, share=(0, after))
    for other in others:
        other.join()
        assert other.exitcode == 0
    notes = Counter(map(int, (tmp_path / "read").read_text().split()))
    del notes[0]  # each process reads it, since it says how its bucket is laid out
    assert notes == Counter(set(range(1, 19)) - held)
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
