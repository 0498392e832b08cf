"""Choose speeds from what was measured, and write them to configs/speed.yaml."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from benchmarks.speed_figures import Figures
from editkit import config
from editkit.inference.speed import TABLE, resolve
from editkit.inference.speed_settings import as_values

MAY_LOSE = {"balanced": 0.01, "fast": 0.03}
"""Success that a speed may lose against exact."""
HEAD = """\
# Settings of `speed` by backbone and method, and the steps that they were measured in. Not a training config.
# Written by `python benchmarks/editing_speed.py tiny --write`.
"""


def write(base: str, method: str, steps: int, measured: Mapping[str, tuple[str, Figures]]) -> None:
    """Put the technique that saves most within each speed's allowance into the table.

    All settings are written, since defaults may change after they were measured, and the number of steps.
    """
    table = config.read_yaml(TABLE) if TABLE.is_file() else {}
    entry = table.setdefault(base, {})[method] = {"steps": steps}
    for name, loses in MAY_LOSE.items():
        speed = chosen(measured, loses)
        settings = resolve(speed, base, method)
        entry[name] = speed if settings is None else as_values(settings)
    TABLE.write_text(HEAD + yaml.safe_dump(table, sort_keys=True, default_flow_style=None))
    print(f"{TABLE}: {method} {entry}")


def chosen(measured: Mapping[str, tuple[str, Figures]], loses: float) -> str:
    """Return the `speed` that saves most operations and loses no more success than this."""
    full = measured["exact"][1].success
    allowed = [(speed, found) for speed, found in measured.values() if found.success >= full - loses]
    return max(allowed, key=lambda pair: pair[1].saves)[0]
