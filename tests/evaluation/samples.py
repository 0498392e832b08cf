"""Small samples of benchmarks in exactly the layouts in which they are published."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from editkit.evaluation.benchmarks import Benchmark, open_benchmark
from editkit.evaluation.records import Item, Problem

SIZE = (48, 32)


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Some squares of colours of their own."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def saved(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)
    return path


def encoded(seed: int) -> dict[str, Any]:
    """A picture as Hugging Face keeps it in parquet."""
    buffer = io.BytesIO()
    picture(seed).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"{seed}.png"}


def hub_parquet(path: Path, rows: list[dict[str, Any]], images: list[str]) -> Path:
    """A parquet shard with the Hub's own description of its image columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {name: {"_type": "Image"} for name in images}
    features = {
        name: kinds.get(name) or {"dtype": "bool" if isinstance(value, bool) else "string", "_type": "Value"}
        for name, value in rows[0].items()
    }
    table = pa.Table.from_pylist(rows)
    told = json.dumps({"info": {"features": features}})
    parquet.write_table(table.replace_schema_metadata({"huggingface": told}), path)
    return path.parent


def kontext(folder: Path) -> Path:
    """black-forest-labs/kontext-bench: an imagefolder of one split."""
    kinds = ("Instruction Editing - Local", "Text Editing", "Style Reference")
    lines = []
    for number, kind in enumerate(kinds):
        saved(folder / "test" / "images" / f"{number:04d}.jpg", number)
        lines.append(
            {
                "file_name": f"images/{number:04d}.jpg",
                "instruction": f'write "no {number}"' if kind == "Text Editing" else f"edit {number}",
                "category": kind,
                "key": f"key{number}",
                "image_idx": number,
                "prompt_idx": 0,
            }
        )
    (folder / "test" / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def emu(folder: Path) -> Path:
    """facebook/emu_edit_test_set: parquet shards of two splits."""
    rows = [
        {
            "instruction": f"edit {number}",
            "image": encoded(number),
            "task": "color" if number else "text",
            "split": "test",
            "idx": str(number),
            "hash": f"h{number}",
            "input_caption": f"a cat {number}",
            "output_caption": f"a dog {number}",
        }
        for number in range(3)
    ]
    hub_parquet(folder / "data" / "test-00000-of-00001.parquet", rows, ["image"])
    hub_parquet(folder / "data" / "validation-00000-of-00001.parquet", rows[:1], ["image"])
    return folder


def gedit(folder: Path) -> Path:
    """stepfun-ai/GEdit-Bench: both languages in one split."""
    groups = ("background_change", "motion_change", "ps_human")
    rows = [
        {
            "task_type": group,
            "key": f"{language}{number}",
            "instruction": "换背景" if language == "cn" else f"edit {number}",
            "instruction_language": language,
            "input_image": encoded(number),
            "input_image_raw": encoded(10 + number),
            "Intersection_exist": number > 0,
        }
        for language in ("en", "cn")
        for number, group in enumerate(groups)
    ]
    hub_parquet(folder / "data" / "train-00000-of-00001.parquet", rows, ["input_image", "input_image_raw"])
    return folder


def gedit_v2(folder: Path) -> Path:
    """GEditBench-v2: JSON lines beside folders of pictures."""
    lines = []
    for number in range(3):
        saved(folder / "images" / "source" / f"{number}.png", number)
        row = {"key": f"k{number}", "instruction": f"edit {number}", "task": "oref" if number else "cref"}
        lines.append({**row, "source_image": f"images/source/{number}.png", "candidates": []})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def magicbrush(folder: Path) -> Path:
    """MagicBrush's unpacked test set: one session of one turn, one of three."""
    sessions: dict[str, list[dict[str, str]]] = {}
    captions: dict[str, dict[str, str]] = {}
    for session, turns in (("30", 1), ("139", 3)):
        folder_of = folder / "images" / session
        saved(folder_of / f"{session}-input.png", int(session))
        sessions[session], captions[session] = [], {f"{session}-input.png": "a room"}
        for turn in range(1, turns + 1):
            name = f"{session}-output{turn}.png"
            saved(folder_of / name, int(session) + turn)
            mask = picture(int(session)).convert("RGBA")
            alpha = np.full(SIZE[::-1], 255, np.uint8)
            alpha[8:16, 8:24] = 0
            mask.putalpha(Image.fromarray(alpha))
            mask.save(folder_of / f"{session}-mask{turn}.png")
            before = f"{session}-input.png" if turn == 1 else f"{session}-output{turn - 1}.png"
            sessions[session].append(
                {
                    "input": before,
                    "mask": f"{session}-mask{turn}.png",
                    "output": name,
                    "instruction": f"turn {turn}",
                }
            )
            captions[session][name] = f"a room after {turn}"
    (folder / "edit_sessions.json").write_text(json.dumps(sessions))
    (folder / "local_descriptions.json").write_text(json.dumps(captions))
    return folder


def imgedit(folder: Path) -> Path:
    """ImgEdit's basic suite."""
    rows = {}
    for number, kind in enumerate(("add", "background", "style")):
        saved(folder / "animal" / f"{number}.jpg", number)
        rows[str(1000 + number)] = {
            "id": f"animal/{number}.jpg",
            "prompt": f"edit {number}",
            "edit_type": kind,
        }
    (folder / "basic_edit.json").write_text(json.dumps(rows))
    return folder


def imgedit_multi(folder: Path) -> Path:
    """ImgEdit's multi-turn suite: a file a category."""
    for name, turns in (("content_memory", 3), ("version_backtracking", 2)):
        saved(folder / "000066341.jpg", turns)
        row = {"id": "000066341.jpg", **{f"turn{turn}": f"turn {turn}" for turn in range(1, turns + 1)}}
        (folder / f"{name}.json").write_text(json.dumps({"1": row}))
    return folder


def jsonl(folder: Path, count: int = 4) -> Path:
    """A file of one's own, with true answers and masks."""
    lines = []
    for number in range(count):
        saved(folder / "source" / f"{number}.png", number)
        saved(folder / "answer" / f"{number}.png", 100 + number)
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[4:20, 4:30] = 255
        (folder / "mask").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "mask" / f"{number}.png")
        lines.append(
            {
                "id": f"item {number}",
                "source": f"source/{number}.png",
                "answer": f"answer/{number}.png",
                "mask": f"mask/{number}.png",
                "instruction": f"edit {number}",
                "category": "even" if number % 2 == 0 else "odd",
            }
        )
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


PUBLISHED = {
    "kontext-bench": kontext,
    "emu-edit": emu,
    "gedit": gedit,
    "gedit-cn": gedit,
    "gedit-v2": gedit_v2,
    "magicbrush": magicbrush,
    "magicbrush-multi": magicbrush,
    "imgedit": imgedit,
    "imgedit-multi": imgedit_multi,
}


def opened(name: str, folder: Path) -> Benchmark:
    """A benchmark on its sample."""
    return open_benchmark(name, PUBLISHED[name](folder))


def split(benchmark: Benchmark) -> tuple[list[Item], list[Problem]]:
    """Items and problems apart."""
    found = list(benchmark.items())
    return [x for x in found if isinstance(x, Item)], [x for x in found if isinstance(x, Problem)]


def copied_results(benchmark: Benchmark, out: Path, change: int = 0) -> Path:
    """Results under published names: answers, or sources, a little brighter by `change`."""
    for item in split(benchmark)[0]:
        shown = item.answer or item.source
        assert shown is not None
        levels = np.clip(shown.rgb().astype(int) + change, 0, 255).astype(np.uint8)
        (out / item.published).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(out / item.published)
    return out
