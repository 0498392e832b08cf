"""Seconds of a whole `editkit edit` with `tiny`, with and without the garbage collector in imports.

    python benchmarks/startup.py [--pairs 5]

The two kinds of processes take turns. Prints the median of each, and the ratio.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
ALWAYS_ON = "import gc; gc.disable = gc.freeze = lambda: None; "
EDIT = "from editkit.cli import main; main()"


def main() -> None:
    """Time pairs of processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    found = [(seconds(ALWAYS_ON), seconds("")) for _ in range(pairs)]
    on, off = (median(each) for each in zip(*found, strict=True))
    print(f"collector on {on:.2f} s, off during imports {off:.2f} s, ratio {off / on:.2f} ({pairs} pairs)")


def seconds(before: str) -> float:
    """Edit a sample in a process of its own; return the seconds that it takes."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ["edit", "demos/samples/red_circle.png", "make the red circle blue", "--quiet"]
        call = [sys.executable, "-c", before + EDIT, *asked, "-o", str(Path(folder) / "edited.png")]
        began = time.perf_counter()
        # Python puts the working folder on the path for -c.
        subprocess.run(call, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
