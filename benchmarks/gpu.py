"""Seconds of one forward pass of FLUX.1's transformer on a GPU: eager, compiled, fp8, cached context, region.

Weights are random, 12 billion of them, so that nothing is downloaded. It is meant to take four minutes at
most on an H100 or H200: a row that the time does not allow is left out, and said. Nobody has run it on a GPU
yet; `--width middle` and `--width small` run the same on a CPU.

    python benchmarks/gpu.py [--side 1024] [--minutes 4] [--repeats 5]
    python benchmarks/gpu.py --width middle --device cpu --side 512 --minutes 30 --repeats 1
    python benchmarks/gpu.py --width small --device cpu --side 64
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from backbones.flux import Flux
from benchmarks import gpu_network
from editkit import gpus
from editkit.errors import EditkitError, first_sentence
from editkit.inference.partial_plan import plan_of_some
from editkit.key_values import KeyValues
from editkit.types import Plan

PUBLISHED, TOKENS = 59.5e12, 4608
"""Operations of a pass over this many tokens, as FLUX.1's sizes give them."""
REGION = 0.1
"""Share of the canvas that a pass of a region computes."""
WARM = 2
"""Passes before those that are timed."""
GUIDANCE = 2.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to compute a pass.

    Attributes:
        name: the row's name.
        plan: what is computed.
        prepare: what is done before, once; it raises where that is not possible here.
        share: share of the canvas' tokens that the pass computes.
    """

    name: str
    plan: Plan
    prepare: Callable[[], object] = lambda: None
    share: float = 1.0


def main() -> None:
    """Print the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", choices=gpu_network.WIDTHS, default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backend", default="inductor", help="torch's compiler backend")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; give --device cpu --width small or middle.")
    limit, sizes = given.minutes * 60, (given.width, given.device, given.side)
    for line in report(*sizes, limit, given.repeats, given.backend):
        print(line, flush=True)


@torch.no_grad()
def report(
    width: str, device: str, side: int, limit: float, repeats: int, backend: str = "inductor"
) -> Iterator[str]:
    """Yield the lines of the table.

    Args:
        width: a key of `gpu_network.WIDTHS`.
        device: cuda or cpu.
        side: width and height of the picture, in pixels.
        limit: seconds after which no further row is begun.
        repeats: number of timed passes of a row.
        backend: torch's compiler backend.
    """
    start = time.perf_counter()
    flux = gpu_network.network(width, torch.device(device))
    shapes = gpu_network.network(width, torch.device("meta"))
    found = gpus.first_gpu() if device == "cuda" else None
    peak = found.speed if found else None
    yield (
        f"{found.name if found else device}, torch {torch.__version__}, {flux.dtype}, width {width}, "
        f"{side}x{side}; made in {time.perf_counter() - start:.0f} s"
    )
    yield "| | tokens | ms a pass | TFLOP | TFLOP/s | time to the floor | peak memory, GB |"
    yield "| --- " * 7 + "|"
    for way in ways(flux, side, backend):
        if time.perf_counter() - start > limit:
            yield f"| {way.name} | left out: the time is up | | | | | |"
            continue
        try:
            way.prepare()
            seconds, memory = measured(flux, way, repeats)
        except (ImportError, RuntimeError, EditkitError, NotImplementedError) as error:
            yield f"| {way.name} | not here: {first_sentence(error)[:90]} | | | | | |"
            continue
        flops = gpu_network.operations(shapes, gpu_network.counting(shapes, flux, way.plan, side), way.share)
        yield row(way.name, gpu_network.tokens(way.plan, side, way.share), seconds, flops, peak, memory)
    if width == "full":
        yield f"A pass over {TOKENS:,} tokens takes {PUBLISHED / 1e12} TFLOP at least."
        yield "The floor is TFLOP over the maker's peak in bf16, for fp8 too, whose peak is twice as high."


def row(name: str, tokens: int, seconds: float, flops: float, peak: float | None, memory: float) -> str:
    """Return a row of the table."""
    floor = f"{seconds * peak / flops:.2f}" if peak else "peak unknown"
    return (
        f"| {name} | {tokens:,} | {1e3 * seconds:.1f} | {flops / 1e12:.3g} | {flops / seconds / 1e12:.3g} | "
        f"{floor} | {memory / 1e9:.1f} |"
    )


def ways(flux: Flux, side: int, backend: str) -> Iterator[Way]:
    """Yield the rows: each is prepared over the one before."""
    text, joint, cached = (
        gpu_network.plan(flux, side, picture=picture, apart=apart)
        for picture, apart in ((False, False), (True, False), (True, True))
    )
    yield Way(name="text to image, eager", plan=text)
    yield Way(name="Kontext, eager", plan=joint)
    yield Way(name="Kontext, cached context, eager", plan=cached)
    yield Way(name=f"Kontext, region of {REGION:.0%}, eager", plan=region(flux, joint, side), share=REGION)
    yield Way(name="text to image, compiled", plan=text, prepare=lambda: gpu_network.compiled(flux, backend))
    yield Way(name="Kontext, compiled", plan=joint)
    yield Way(name="Kontext, cached context, compiled", plan=cached)
    yield Way(name="text to image, compiled, fp8", plan=text, prepare=lambda: gpu_network.in_fp8(flux))
    yield Way(name="Kontext, compiled, fp8", plan=joint)
    yield Way(name="Kontext, cached context, compiled, fp8", plan=cached)


def region(flux: Flux, joint: Plan, side: int) -> Plan:
    """Make the plan of a share of the canvas, beside what a full pass kept."""
    kept = KeyValues()
    keeping = replace(joint, conditioning=replace(joint.conditioning, kept=kept))
    flux.velocity(gpu_network.latents(flux, side), 1.0, keeping, GUIDANCE)
    return plan_of_some(joint, kept, gpu_network.active(flux, side, REGION))[0]


def measured(flux: Flux, way: Way, repeats: int) -> tuple[float, float]:
    """Return the median seconds of a pass, and the peak of memory in bytes."""
    x_BLC = gpu_network.latents(flux, side_of(way.plan), way.share)
    gpu = flux.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    spent = []
    for number in range(WARM + repeats):
        start = time.perf_counter()
        flux.velocity(x_BLC, 0.5, way.plan, GUIDANCE)
        if gpu:
            torch.cuda.synchronize()
        if number >= WARM:
            spent.append(time.perf_counter() - start)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return statistics.median(spent), float(torch.cuda.max_memory_allocated() if gpu else rss)


def side_of(plan: Plan) -> int:
    """Return the side of a plan's square canvas, in pixels."""
    return plan.canvas.width


if __name__ == "__main__":
    main()
