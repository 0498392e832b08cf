"""Which experts ICEdit's LoRA-MoE uses for which kind of ShapesWorld edit.

    python benchmarks/icedit_routing.py [--n 16] [--output out/routing]

Writes routing.json (mean weights by module, for `editkit lora collapse --weights`), shares.json, routing.png.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image

import editkit
from editkit import images
from editkit.data import shapesworld as world
from editkit.types import EditRequest
from methods.icedit import routing


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16, help="held-out edits of each kind")
    parser.add_argument("--output", type=Path, default=Path("out/routing"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images.check_folder(arguments.output)
    arguments.output.mkdir(parents=True, exist_ok=True)
    editor = editkit.load("tiny", device="cpu", options={"icedit": {"adapter": "moe"}})
    found = routing.measure(editor, {kind: requests(kind, arguments.n) for kind in world.ON_SCENE})
    shares = {kind: each for kind, (each, _) in found.items()}
    report(shares)
    weights = mean([each for _, each in found.values()])
    (arguments.output / "routing.json").write_text(json.dumps(weights) + "\n")
    (arguments.output / "shares.json").write_text(json.dumps(shares) + "\n")
    routing.plot(shares, arguments.output / "routing.png")
    print(arguments.output / "routing.png")


def requests(kind: str, count: int) -> list[EditRequest]:
    """The first held-out edits of a kind."""
    drawn = [world.example(seed, kind) for seed in range(count)]
    return [
        EditRequest(
            image=Image.fromarray(world.render(example.source)),
            instruction=example.instruction,
            method="icedit",
            seed=example.seed,
        )
        for example in drawn
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
