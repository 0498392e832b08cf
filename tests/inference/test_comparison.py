"""Methods side by side."""

from __future__ import annotations

import pytest
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit import EditkitError
from tests.pictures import image


def test_comparison(random_flux: Flux) -> None:
    from editkit.inference import comparison
    from editkit.judges import load_judge

    editor = editkit.Editor(random_flux)
    picture = image(96, 64)
    names = ["aceplus", "icedit", "kontext"]
    entries = comparison.compare(
        editor, picture, "make it red", names, steps=1, seed=2, judge=load_judge("preserve")
    )
    assert [entry.result.method for entry in entries] == names
    assert all(entry.seconds > 0 and 0 <= entry.changed <= 1 for entry in entries)
    assert sum(entry.wins for entry in entries) == 3
    tokens = {entry.result.method: entry.tokens for entry in entries}
    assert tokens == {"aceplus": 64, "icedit": 128, "kontext": 64}
    made = comparison.sheet(picture, entries)
    assert made.width > 4 * 256
    with pytest.raises(EditkitError, match="each once"):
        comparison.compare(editor, picture, "make it red", ["kontext", "kontext"])


def test_comparison_goes_on_where_a_method_fails(random_flux: Flux) -> None:
    from editkit.inference import comparison

    mask = Image.new("L", (10, 10))
    editor = editkit.Editor(random_flux, {"icedit": {"framework": "text"}})
    mask = Image.new("L", (64, 64), 255)
    entries = comparison.compare(
        editor, image(64, 64), "make it red", ["icedit", "kontext"], steps=1, mask=mask
    )
    assert "takes no mask" in entries[0].result.error
    assert entries[1].result.error is None
    assert comparison.sheet(image(64, 64), entries).width > 3 * 256
