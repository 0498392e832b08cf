"""Three methods in one process: resident weights and the cost of a switch, beside three diffusers pipelines.

python benchmarks/switching.py
"""

import statistics
import time
from collections.abc import Iterable
from itertools import permutations
from pathlib import Path

import torch
from diffusers import FluxFillPipeline, FluxKontextPipeline
from safetensors.torch import load_file
from torch import nn

import editkit
from backbones.specs import FAMILIES
from editkit.editor import Editor
from methods.aceplus.config import ADAPTERS as TASK_ADAPTERS
from methods.icedit.config import ADAPTERS

METHODS = ("kontext", "icedit", "aceplus")
PICTURE, WORDS = Path(__file__).parent.parent / "demos/samples/red_circle.png", "make the red circle blue"
ROUNDS = 10


def main() -> None:
    """Print both figures."""
    torch.set_num_threads(2)
    editor = editkit.load("tiny", device="cpu")
    resident, needed = weights(editor)
    roles = FAMILIES["tiny"].roles
    count = len(editor.backbone.transformers)
    print(f"editkit, {len(METHODS)} methods, {count} transformers: {megabytes(resident)}")
    print(f"one VAE, text encoders, two transformers, two adapters as they are stored: {megabytes(needed)}")
    print(f"resident / needed: {resident / needed:.3f} (aimed at: 1.05)")
    pipelines = [
        cls.from_pretrained(roles[role].source, torch_dtype=torch.float32)
        for cls, role in (
            (FluxKontextPipeline, "kontext"),
            (FluxFillPipeline, "fill"),
            (FluxFillPipeline, "fill"),
        )
    ]
    apart = held(
        [part for pipe in pipelines for part in pipe.components.values() if isinstance(part, nn.Module)]
    )
    print(f"three diffusers pipelines, no adapters: {megabytes(apart)}, {apart / resident:.2f} times as much")

    def seconds(method: str) -> float:
        start = time.perf_counter()
        editor.edit(PICTURE, WORDS, method, steps=1)
        return time.perf_counter() - start

    costs: dict[tuple[str, str], list[float]] = {pair: [] for pair in permutations(METHODS, 2)}
    for _ in range(ROUNDS):
        for before, after in costs:
            seconds(before)
            switched = seconds(after)
            costs[before, after].append(switched - min(seconds(after), seconds(after)))
    for (before, after), found in costs.items():
        print(f"{before} to {after}: {statistics.median(found) * 1000:.1f} ms (aimed at: 50)")


def weights(editor: Editor) -> tuple[int, int]:
    """Bytes that an editor of `tiny` holds after an edit by each method, and bytes of all that they need."""
    for method in METHODS:
        editor.edit(PICTURE, WORDS, method, steps=1)
    backbone, roles = editor.backbone, FAMILIES["tiny"].roles
    resident = held(
        [backbone.vae, backbone.encoders.clip, backbone.encoders.t5, *backbone.transformers.values()]
    )
    parts = [Path(roles["kontext"].source) / part for part in ("vae", "text_encoder", "text_encoder_2")]
    parts += [Path(roles[role].source) / "transformer" for role in ("kontext", "fill")]
    loaded = [ADAPTERS["tiny"]["moe"], TASK_ADAPTERS["tiny"]["local"]]
    return resident, 4 * sum(stored(folder) for folder in (*parts, *map(Path, loaded)))


def held(modules: Iterable[nn.Module]) -> int:
    """Bytes of all parameters and buffers, each storage once."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def stored(folder: Path) -> int:
    """Values in a folder's weights."""
    return sum(t.numel() for path in folder.glob("*.safetensors") for t in load_file(path).values())


def megabytes(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
