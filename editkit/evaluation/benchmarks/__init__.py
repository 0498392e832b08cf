"""Benchmarks: a YAML each, and readers of the layouts in which they are published."""

from __future__ import annotations

import importlib
from pathlib import Path

from editkit import config
from editkit.errors import EditkitError, unknown
from editkit.evaluation.benchmarks.benchmark import Benchmark, BenchmarkConfig, Contents, Reader

FOLDER = Path(__file__).parent
BENCHMARKS = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""Names of the benchmarks that come with editkit."""
READERS = {
    "table": "editkit.evaluation.benchmarks.table:items",
    "magicbrush": "editkit.evaluation.benchmarks.magicbrush:items",
    "imgedit": "editkit.evaluation.benchmarks.imgedit:basic",
    "imgedit multi-turn": "editkit.evaluation.benchmarks.imgedit:multi_turn",
    "shapesworld": "editkit.shapesworld.benchmark:items",
}
"""Place of each reader, which is imported when it is asked for."""
DRAWN = ("shapesworld",)
"""Readers that need no data."""

YAML = (".yaml", ".yml")

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkConfig",
    "Contents",
    "Reader",
    "described",
    "located",
    "open_benchmark",
]


def described(name: str) -> BenchmarkConfig:
    """Read a benchmark's YAML; `name` is one of `BENCHMARKS` or the path of a YAML.

    Raises:
        EditkitError: for an unknown name, key or reader.
    """
    own = name.endswith(YAML)
    if not own and name not in BENCHMARKS:
        raise EditkitError(unknown("benchmark called", name, BENCHMARKS))
    found = config.build(BenchmarkConfig, config.read_yaml(name if own else FOLDER / f"{name}.yaml"))
    if found.reader not in READERS:
        raise EditkitError(unknown("reader of benchmarks called", found.reader, READERS))
    return found


def located(name: str) -> str:
    """A benchmark's name, or the absolute path of its YAML."""
    return str(Path(name).resolve()) if name.endswith(YAML) else name


def open_benchmark(name: str, data: str | Path | None = None) -> Benchmark:
    """A benchmark by name, or by the path of its YAML, with the place of its data.

    Raises:
        EditkitError: for an unknown name, or where data are missing or not wanted.
    """
    found = described(name)
    if data is None and found.reader not in DRAWN:
        where = f", from {found.source}" if found.source else ""
        raise EditkitError(f"The benchmark {found.name} needs --data, where its data are{where}.")
    if data is not None and found.reader in DRAWN:
        raise EditkitError(
            f"The benchmark {found.name} draws its pictures and reads no data; leave --data out."
        )
    if data is not None and not Path(data).exists():
        raise EditkitError(f"There is nothing at {data}; give --data of a folder or file that exists.")
    module, _, function = READERS[found.reader].partition(":")
    reader: Reader = getattr(importlib.import_module(module), function)
    return Benchmark(config=found, data=None if data is None else Path(data), reader=reader)
