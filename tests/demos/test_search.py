"""Behaviour of the Seed search tab, as a program uses it."""

from __future__ import annotations

from typing import Any

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from demos.samples import OPEN
from tests.demos.page_client import RED, words

LEVELS = 4
"""Mean difference of two pictures, of 255 levels, that anybody sees."""


def previews(found: Any) -> list[dict[str, Any]]:
    (gallery,) = (each for each in found if isinstance(each, list) and isinstance(each[0], dict))
    return list(gallery)


def reasons(found: Any) -> str:
    (table,) = (each for each in found if isinstance(each, str) and "<table" in each)
    return str(table)


def test_the_search_that_the_page_starts_with_finds_different_pictures(client: Client) -> None:
    """The page's own picture, instruction, method, judge and number of seeds."""
    picture = handle_file(OPEN.picture)
    found = client.predict(picture=picture, instruction=OPEN.instruction, api_name="/search")
    assert words(found[0]).startswith("Done: seed")
    shown = previews(found)
    pixels = [np.asarray(Image.open(each["image"]).convert("RGB"), float) for each in shown]
    apart = [abs(a - b).mean() for place, a in enumerate(pixels) for b in pixels[:place]]
    assert len(apart) == 6
    assert np.mean(apart) > LEVELS
    assert sum(each["caption"].endswith("1st choice") for each in shown) == 1
    assert " in the " in reasons(found) or "everywhere" in reasons(found)  # as the judge tiny says it
    assert '"better"' not in reasons(found)


def test_search_shows_previews_and_reasons(client: Client) -> None:
    asked = {"instruction": "make the red circle blue", "seeds": 3, "seed": 5, "judge": "preserve"}
    asked |= {"method": "kontext", "speed": "fast"}
    found = client.predict(picture=handle_file(RED), api_name="/search", **asked)
    assert "Done: seed" in words(found[0])
    captions = [each["caption"].split(", ") for each in previews(found)]
    assert [seed for seed, _ in captions] == ["seed 5", "seed 6", "seed 7"]
    assert [fate for _, fate in captions].count("1st choice") == 1
    assert reasons(found).count("of 255 levels") == 3
    finished = client.predict(seed=7, api_name="/search_finish")
    assert words(finished[0]) == "Done: seed 7."
    refused = client.predict(picture=None, instruction="x", seeds=3, api_name="/search")
    assert "There is no picture yet" in words(refused[0])
