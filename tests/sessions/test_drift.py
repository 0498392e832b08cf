"""Drift: what it counts, and how an anchor undoes it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import editkit
from tests.sessions.results import SIZE, gray, made, moved, patched


def test_drift_counts_what_no_turn_was_meant_to_change(editor: editkit.Editor) -> None:
    session = editor.session(gray())
    assert session.drift() == 0
    for turn in range(1, 6):
        # A large change, and a little of something everywhere else, which is drift and not a change.
        session.adopt(made(patched(moved(session.current.image, 4), (5 * turn, 8, 5 * turn + 16, 30))))
        assert session.drift() == pytest.approx(4 * turn / 255, abs=1e-6)
    session.branch(2)
    assert session.drift() == pytest.approx(8 / 255, abs=1e-6)


def test_a_mask_says_what_may_change(editor: editkit.Editor) -> None:
    """Though nothing was visibly painted in half of it."""
    session = editor.session(gray())
    mask = Image.new("L", SIZE)
    mask.paste(255, (0, 0, 32, 48))
    brighter = moved(session.current.image, 10)
    session.adopt(made(Image.composite(brighter, session.current.image, mask), change=mask))
    assert session.drift() == 0
    session.branch(0)
    session.adopt(made(Image.composite(brighter, session.current.image, mask)))
    assert session.drift() == pytest.approx(5 / 255, abs=1e-6)


def test_no_pixel_left_to_drift(editor: editkit.Editor) -> None:
    session = editor.session(gray())
    session.adopt(made(Image.new("RGB", SIZE, "white")))
    assert session.drift() == 0


def test_anchor_gives_the_original_back(editor: editkit.Editor) -> None:
    source = gray()
    source.putalpha(Image.linear_gradient("L").resize(SIZE))
    session = editor.session(source)
    colours = source.convert("RGB")
    painted = patched(patched(moved(colours, 6), (8, 8, 24, 24)), (40, 30, 56, 44), "white")
    painted.putalpha(source.getchannel("A"))
    session.adopt(made(painted))
    assert session.drift() > 0.02
    anchored = session.anchor()
    assert (anchored.number, anchored.parent, anchored.method) == (2, 1, "")
    assert session.drift() == 0
    kept, original = np.array(anchored.image), np.array(source)
    assert (kept[:, :, 3] == original[:, :, 3]).all()
    outside = np.ones(SIZE[::-1], dtype=bool)
    outside[4:28, 4:28] = outside[26:48, 36:60] = False
    assert (kept[outside] == original[outside]).all()
    assert (kept[12:20, 12:20, :3] == 0).all()
    assert (kept[34:40, 44:52, :3] == 255 - 6).all()  # less what its surroundings had drifted
    # An anchor changes nothing itself, so that later turns still count what was changed before it.
    session.adopt(made(moved(anchored.image.convert("RGB"), 5)))
    assert session.drift() == pytest.approx(5 / 255, abs=1e-6)
