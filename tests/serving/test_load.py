"""Many clients at once, one in five hostile: good ones get what the API gives, bad ones are refused."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import editkit
from editkit import EditRequest
from tests.pictures import difference, image
from tests.serving.hostile import ATTACKS
from tests.serving.server import Served, served
from tests.serving.uploads import WORDS, file, opened

CONNECTIONS = 16
SIZES = ((24, 24), (40, 30), (33, 50))
METHODS = ("kontext", "icedit", "aceplus")


def kinds(count: int) -> list[dict[str, Any]]:
    """Requests of several sizes and methods, each with a picture and a seed of its own."""
    return [
        {
            "image": image(*SIZES[place % 3], place),
            "instruction": f"{WORDS} {place}",
            "method": METHODS[place % 3] if place % 2 else "kontext",
            "seed": place,
            "steps": 1 + place % 2,
        }
        for place in range(count)
    ]


def asked(server: Served, kind: dict[str, Any]) -> Image.Image:
    """The server's picture; it is asked again where it is busy."""
    more = {name: kind[name] for name in ("method", "seed", "steps")}
    data = {"prompt": kind["instruction"], **{name: str(value) for name, value in more.items()}}
    while True:
        answer = httpx.post(
            f"{server.url}/v1/images/edits",
            files={"image": file(kind["image"])},
            data=data,
            timeout=1800,
        )
        if answer.status_code != 429:
            break
        time.sleep(min(2, int(answer.headers["Retry-After"])))
    assert answer.status_code == 200, answer.text
    (datum,) = answer.json()["data"]
    assert datum["seed"] == kind["seed"]
    assert datum["recipe"]["instruction"] == kind["instruction"]
    return opened(type("Datum", (), datum))


def load(server: Served, editor: editkit.Editor, count: int, different: int) -> list[float]:
    """Send requests; return the good ones' seconds."""
    good = kinds(different)
    expected = [editor.run(EditRequest(**kind)).image for kind in good]
    attacks = list(ATTACKS.items())
    work: list[int | str] = [
        attacks[place // 5 % len(attacks)][0] if place % 5 == 4 else place % different
        for place in range(count)
    ]
    random.Random(0).shuffle(work)

    def one(each: int | str) -> tuple[float | None, str]:
        start = time.perf_counter()
        if isinstance(each, str):
            status = ATTACKS[each](server)
            gone = each.startswith("leaves")
            well = status is None if gone else status is not None and 400 <= status < 500
            return None, "" if well else f"{each}: {status}"
        picture, wanted = asked(server, good[each]), expected[each]
        assert wanted is not None
        apart = difference(picture, wanted)
        return time.perf_counter() - start, "" if apart <= 1 else f"{each} is off by {apart}"

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        done = list(threads.map(one, work))
    assert [problem for _, problem in done if problem] == []
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    assert server.process.poll() is None
    return sorted(seconds for seconds, _ in done if seconds is not None)


def settled(server: Served) -> None:
    """Wait until the server holds nothing."""
    for _ in range(600):
        if "editkit_edits_held 0.0" in httpx.get(f"{server.url}/metrics").text:
            return
        time.sleep(0.1)
    raise AssertionError("the server still holds edits")


@pytest.mark.parametrize("name", ATTACKS)
def test_each_attack_alone(server: Served, name: str) -> None:
    status = ATTACKS[name](server)
    if name.startswith("leaves"):
        assert status is None
    else:
        assert status is not None
        assert 400 <= status < 500
    settled(server)
    assert httpx.get(f"{server.url}/healthz", timeout=60).status_code == 200
    assert asked(server, kinds(1)[0]).size == SIZES[0]


def test_twenty_five_requests(server: Served, editor: editkit.Editor) -> None:
    load(server, editor, 25, 8)
    settled(server)
    told = [line for line in server.lines() if line["level"] in ("error", "critical")]
    assert told == []


@pytest.mark.slow
def test_five_hundred_requests(tmp_path: Path, editor: editkit.Editor) -> None:
    with served(tmp_path, "--body-seconds", 4, "--max-pixels", 1_000_000) as server:
        load(server, editor, 150, 30)
        settled(server)
        before = server.memory()
        seconds = load(server, editor, 500, 30)
        settled(server)
        after = server.memory()
        statuses = Counter(line["status"] for line in server.lines() if line["message"] == "request")
        middle, late = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
        print(f"p50 {middle:.2f} s, p99 {late:.2f} s, {before >> 20} MB before, {after >> 20} MB after")
        print(dict(statuses))
        assert not any(status >= 500 for status in statuses)
        assert abs(after - before) <= 0.05 * before
