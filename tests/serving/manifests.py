"""Manifests of a few edits, their jobs, and what jobs leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import editkit
from editkit.serving.jobs import job, manifest, plan
from editkit.serving.jobs.job import Share
from editkit.serving.jobs.store import Made, Store
from tests.pictures import image

SIZES = ((24, 24), (40, 30), (33, 50))


def rows(folder: Path, count: int) -> Path:
    """A manifest of several sizes and repeated words, with an item that fails in it."""
    for place, size in enumerate(SIZES):
        image(*size, place).save(folder / f"p{place}.png")
    made: list[dict[str, Any]] = [
        {"image": f"p{place % 3}.png", "instruction": f"make it {place % 4}", "seed": place, "steps": 1}
        for place in range(count)
    ]
    made[count // 2]["image"] = "missing.png"
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder / "m.jsonl"


def items(source: Path) -> list[manifest.Item]:
    return manifest.read_manifest(source, {}, {}, None)


def content(folder: Path) -> dict[str, bytes]:
    """Pictures and table, but not what tells when they were made."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*.p*"))}


def logged(folder: Path) -> list[str]:
    """Names of the items in all logs, as often as they are there."""
    lines = [line for log in (folder / "log").glob("*") for line in log.read_text().splitlines()]
    return sorted(json.loads(line)["name"] for line in lines)


ALL = Share()


def whole(editor: editkit.Editor, found: list[manifest.Item], folder: Path, share: Share = ALL) -> list[Made]:
    """A job, or a share of it, in this process."""
    store, told = Store(folder, {"batch_size": 3}), []
    job.run(lambda: editor, plan.batches(found, 3), store, share, tell=told.append)
    job.finish(found, store)
    return told
