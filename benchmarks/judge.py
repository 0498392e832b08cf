"""Prints how often judges prefer the better of two held-out attempts: finished ones, and previews.

python benchmarks/judge.py [pairs] [folder of a tiny judge]
"""

import sys

import torch

from editkit.judges import judge
from editkit.judges.accuracy import pairwise_accuracy


def main() -> None:
    """One row a judge and sort of pairs; `steady` is the share that did not depend on the order."""
    torch.set_num_threads(1)
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    options = {"model": sys.argv[2]} if len(sys.argv) > 2 else {}
    judges = {"preserve": judge("preserve"), "tiny": judge("tiny", options | {"device": "cpu"})}
    for graded in (False, True):
        print(f"\n{'previews' if graded else 'finished pictures'}, {n} pairs in both orders")
        for name, asked in judges.items():
            found = pairwise_accuracy(asked, n, graded=graded, edits_only=name == "preserve")
            kinds = "  ".join(f"{kind} {value:.2f}" for kind, value in found.kinds.items())
            print(f"{name:9} {found.overall:.3f}  steady {found.steady:.2f}  {found.seconds * 1e3:.0f} ms")
            print(f"          {kinds}")


if __name__ == "__main__":
    main()
