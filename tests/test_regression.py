"""Surface: what `tests/regression.py` proves exactly on one machine, as far as all machines agree.

Exact hashes depend on the processor, which adds floats up in an order of its own. Portable are sizes, the
recipes' keys, and pictures in 16 levels with 1 % of the pixels to spare.
After a change that is meant: `python -m tests.test_regression` writes regression.json anew.
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests import regression

FILE = Path(__file__).with_name("regression.json")
BEFORE: dict[str, Any] = json.loads(FILE.read_text()) if FILE.is_file() else {}
SPARE = 0.01


def levels(pixels_HWC: Any) -> NDArray[np.uint8]:
    """Colours in 16 levels, which small errors rarely change."""
    return np.asarray(pixels_HWC, dtype=np.uint8) // 16


def picture(name: str) -> dict[str, Any]:
    """What is portable of an edit."""
    result = regression.edited(regression.CASES["edits"][name])
    assert result.image is not None, result.error
    packed = base64.b64encode(zlib.compress(levels(result.image).tobytes(), 9)).decode()
    return {"size": list(result.image.size), "recipe": sorted(result.recipe), "levels": packed}


def unpacked(known: dict[str, Any]) -> NDArray[np.uint8]:
    """Levels, (pixels, channels)."""
    return np.frombuffer(zlib.decompress(base64.b64decode(known["levels"])), np.uint8).reshape(-1, 3)


@pytest.mark.parametrize("name", regression.CASES["portable"])
def test_edits_give_the_pictures_they_gave(name: str) -> None:
    before, now = BEFORE[name], picture(name)
    assert {**now, "levels": None} == {**before, "levels": None}
    differing = (unpacked(now) != unpacked(before)).any(axis=1).mean()
    assert differing <= SPARE, f"{differing:.1%} of the pixels are others"


if __name__ == "__main__":
    torch.set_num_threads(1)
    pictures = {name: picture(name) for name in regression.CASES["portable"]}
    FILE.write_text(json.dumps(pictures, indent=1) + "\n")
