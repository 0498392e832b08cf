"""Prints how often judges prefer the better of two held-out attempts: drawn ones, and those of a method.

python benchmarks/judge.py [pairs] [folder of a tiny judge]
"""

import sys

import torch

from editkit.judges import load_judge
from editkit.shapesworld import SIZE
from editkit.shapesworld.judge_accuracy import Accuracy, attempts_accuracy, pairwise_accuracy
from editkit.shapesworld.recipes import judge_attempts


def main() -> None:
    """One row a judge and sort of pairs; `steady` is the share that did not depend on the order."""
    torch.set_num_threads(1)
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    options = {"model": sys.argv[2]} if len(sys.argv) > 2 else {}
    judges = {"preserve": load_judge("preserve"), "tiny": load_judge("tiny", options | {"device": "cpu"})}
    for graded in (False, True):
        print(f"\n{'previews' if graded else 'finished pictures'}, drawn, {n} pairs in both orders")
        for name, asked in judges.items():
            show(name, pairwise_accuracy(asked, n, graded=graded, edits_only=name == "preserve"))
    for steps in (2, 8):
        made = judge_attempts.AttemptsConfig(method="icedit", edits=n, seeds=2, steps=(steps,))
        print(f"\nicedit's own after {steps} steps, two seeds of {n} edits where they clearly differ")
        for name, asked in judges.items():
            show(name, attempts_accuracy(asked, judge_attempts.recorded(made, SIZE, start=0)))


def show(name: str, found: Accuracy) -> None:
    """One judge's figures."""
    kinds = "  ".join(f"{kind} {value:.2f}" for kind, value in found.kinds.items())
    print(f"{name:9} {found.overall:.3f}  steady {found.steady:.2f}  {found.seconds * 1e3:.0f} ms")
    print(f"          {kinds}", flush=True)


if __name__ == "__main__":
    main()
