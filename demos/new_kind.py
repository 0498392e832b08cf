"""Teach the embedded model a new edit: put a frame of some colour around the picture.

    python demos/new_kind.py draw                     # training pairs and held-out pairs, in out/frames
    editkit train configs/tiny/kontext-frames.yaml
    python demos/new_kind.py score kontext out/tiny/kontext-frames/export
    python demos/new_kind.py score kontext            # without it

icedit and aceplus work the same way; their training goes on from their own adapters. Other kinds of edits are
scored too.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import editkit
from editkit import shapesworld as world
from editkit.imaging import images
from editkit.shapesworld import evaluate as evaluation
from editkit.shapesworld import scores
from editkit.shapesworld.world import COLOURS

FOLDER = Path("out/frames")
WORDINGS = ("put a {} frame around the picture", "add a {} border", "frame the picture in {}")
WIDTH = 16
TRAINED, HELD_OUT, OTHERS = 1000, 100, 500


def pair(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
    """Make source, answer and instruction from a seed; the frame's colour is not the background's."""
    scene = world.example(seed, "recolour").source
    assert scene is not None
    rng = random.Random(f"frame {seed}")
    colour = rng.choice([name for name in COLOURS if name != scene.background])
    source = world.render(scene)
    answer = np.empty_like(source)
    answer[:] = COLOURS[colour]
    inner = slice(WIDTH, -WIDTH)
    answer[inner, inner] = source[inner, inner]
    return source, answer, rng.choice(WORDINGS).format(colour)


def draw() -> None:
    """Write the pairs of training seeds and of held-out seeds."""
    for name, start, count in (("train", world.TRAINING_START, TRAINED), ("held-out", 0, HELD_OUT)):
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for seed in range(start, start + count):
            source, answer, words = pair(seed)
            for part, pixels in (("source", source), ("answer", answer)):
                images.save(Image.fromarray(pixels), folder / f"{seed}-{part}.png")
            rows.append(
                {"source": f"{seed}-source.png", "answer": f"{seed}-answer.png", "instruction": words}
            )
        (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"drew {TRAINED} pairs to train on and {HELD_OUT} held out in {FOLDER}")


def score(method: str, adapter: str | None) -> None:
    """Print the success of held-out frames, and of the edits that the model knew before."""
    editor = editkit.load("tiny")
    if adapter:
        editor.load_adapter(adapter, method=method)
    pairs = [pair(seed) for seed in range(HELD_OUT)]
    requests = [
        editkit.EditRequest(image=Image.fromarray(source), instruction=words, method=method, seed=seed)
        for seed, (source, _, words) in enumerate(pairs)
    ]
    succeeded = 0
    for result, (source, answer, _) in zip(editor.edit_many(requests), pairs, strict=True):
        assert result.image is not None, result.error
        before, truth, edited = (
            np.asarray(each, dtype=np.float32) / np.float32(255) for each in (source, answer, result.image)
        )
        succeeded += scores.score(before, truth, edited, "local").success
    print(f"frames: {succeeded / HELD_OUT:.3f} of {HELD_OUT} succeed", flush=True)
    others = evaluation.evaluate(editor, method, n=OTHERS)["categories"]
    known = ", ".join(f"{name} {others[name]['success']:.3f}" for name in ("local", "global"))
    print(f"edits known before: {known} of {OTHERS}")


def main() -> None:
    """Parse the command line and run its command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("draw", help="write pairs into out/frames")
    scoring = commands.add_parser("score", help="count successful edits")
    scoring.add_argument("method")
    scoring.add_argument(
        "adapter", nargs="?", help="adapter trained on frames; the method's default if not given"
    )
    arguments = parser.parse_args()
    if arguments.command == "draw":
        draw()
    else:
        score(arguments.method, arguments.adapter)


if __name__ == "__main__":
    main()
