"""Draws the training loss of the embedded model's stages whose logs are kept in configs/tiny/logs.

python -m benchmarks.stage_curves

It writes docs/assets/stage-curves.svg. The loss of a step is that of its own samples, so each line is a
running mean.
"""

from __future__ import annotations

import json
import math
from itertools import cycle
from pathlib import Path

import numpy as np

from editkit import atomic_files, config
from editkit.evaluation.report.plots import COLOURS
from editkit.train.config import FitConfig

ROOT = Path(__file__).resolve().parent.parent
CONFIGS, OUT = ROOT / "configs" / "tiny", ROOT / "docs" / "assets" / "stage-curves.svg"
COLUMNS = 4
WINDOW = 15
"""Number of a log's lines that are averaged."""


def main() -> None:
    """Draw all kept logs into one picture."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    logs = sorted((CONFIGS / "logs").glob("*.jsonl"))
    rows_of_panels = math.ceil(len(logs) / COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 2.8 * rows_of_panels), layout="constrained")
    panels = figure.subplots(rows_of_panels, COLUMNS, squeeze=False).ravel()
    for axes in panels[len(logs) :]:
        axes.remove()
    for log, axes, colour in zip(logs, panels, cycle(COLOURS), strict=False):
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        batch = config.read_yaml(CONFIGS / f"{log.stem}.yaml")["fit"].get("batch", FitConfig.batch)
        samples = np.array([row["step"] for row in rows]) * batch / 1000
        loss = np.array([row["loss"] for row in rows])
        axes.plot(samples, loss, color=colour, alpha=0.25, linewidth=0.8)
        smooth = np.convolve(loss, np.ones(WINDOW) / WINDOW, mode="valid")
        axes.plot(samples[WINDOW // 2 : WINDOW // 2 + len(smooth)], smooth, color=colour)
        axes.set(title=log.stem, xlabel="thousand samples", ylabel="loss", ylim=(0, None))
    same = {"svg.hashsalt": OUT.stem}  # the same logs give the same file
    with rc_context(same), atomic_files.whole(OUT) as file:
        figure.savefig(file, format="svg", metadata={"Date": None})
    print(OUT)


if __name__ == "__main__":
    main()
