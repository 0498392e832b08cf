"""Count the experts that ICEdit's LoRA-MoE uses by kind of edit: ShapesWorld's, or those of a file of pairs.

    python benchmarks/icedit_routing.py [--n 16] [--output out/routing]
    python benchmarks/icedit_routing.py --backbone flux1-dev --data pairs/held-out.jsonl

Writes routing.json (mean weights by module, for `editkit lora collapse --weights`), shares.json, routing.png.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image

import editkit
from editkit import config
from editkit import shapesworld as world
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.imaging import images
from editkit.types import EditRequest
from methods.icedit import routing


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16, help="edits of each kind")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument(
        "--adapter", default="moe", help="as ICEdit's option: a name, a file, a folder, a Hub id"
    )
    parser.add_argument("--data", help="JSONL of pairs; ShapesWorld's held-out edits if not given")
    parser.add_argument("--device", help="cpu, cuda or mps; the best one here if not given")
    parser.add_argument("--output", type=Path, default=Path("out/routing"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images.check_folder(arguments.output)
    arguments.output.mkdir(parents=True, exist_ok=True)
    editor = editkit.load(
        arguments.backbone, arguments.device, options={"icedit": {"adapter": arguments.adapter}}
    )
    if arguments.data:
        asked = from_file(arguments.data, arguments.n)
    else:
        asked = {kind: drawn(kind, arguments.n) for kind in world.ON_SCENE}
    found = routing.measure(editor, asked)
    shares = {kind: each for kind, (each, _) in found.items()}
    report(shares)
    weights = mean([each for _, each in found.values()])
    (arguments.output / "routing.json").write_text(json.dumps(weights) + "\n")
    (arguments.output / "shares.json").write_text(json.dumps(shares) + "\n")
    routing.plot(shares, arguments.output / "routing.png")
    print(arguments.output / "routing.png")


def from_file(path: str, count: int) -> dict[str, list[EditRequest]]:
    """The first edits of each kind in a file; those without a kind are one."""
    found: dict[str, list[EditRequest]] = {}
    records = dataset(config.build(DataConfig, {"name": "jsonl", "path": path}))
    for seed in range(len(records)):
        record = records[seed]
        chosen = found.setdefault(record.kind or "edit", [])
        if record.source is not None and len(chosen) < count:
            chosen.append(record.request("icedit", seed))
    if not any(found.values()):
        raise editkit.EditkitError(f"{path} holds no edit of a picture; give pairs with a source.")
    return {kind: chosen for kind, chosen in found.items() if chosen}


def drawn(kind: str, count: int) -> list[EditRequest]:
    """The first held-out edits of a kind."""
    examples = [world.example(seed, kind) for seed in range(count)]
    return [
        EditRequest(
            image=Image.fromarray(world.render(example.source)),
            instruction=example.instruction,
            method="icedit",
            seed=example.seed,
        )
        for example in examples
        if example.source
    ]


def report(shares: Mapping[str, routing.Shares]) -> None:
    """Each module's shares over all kinds, and how far a kind strays from them at most."""
    print(f"{'':<44}share of tokens by expert{'':>8}furthest kind")
    for module, overall in mean(list(shares.values())).items():
        apart = {
            kind: sum(abs(a - b) for a, b in zip(each[module], overall, strict=True)) / 2
            for kind, each in shares.items()
        }
        far = max(apart, key=apart.__getitem__)
        print(
            f"{module:<44}"
            + " ".join(f"{share:.2f}" for share in overall)
            + f"{'':>14}{far} ({apart[far]:.2f})"
        )


def mean(tables: list[routing.Shares]) -> routing.Shares:
    """The mean over kinds."""
    return {
        module: [sum(values) / len(tables) for values in zip(*(t[module] for t in tables), strict=True)]
        for module in tables[0]
    }


if __name__ == "__main__":
    main()
