"""Behaviour of the Seed search tab, as a program uses it."""

from __future__ import annotations

from gradio_client import Client, handle_file

from tests.demos.page_client import RED, words


def test_search_shows_previews_and_reasons(client: Client) -> None:
    found = client.predict(
        picture=handle_file(RED), instruction="make the red circle blue", seeds=3, seed=5, api_name="/search"
    )
    assert "Done: seed" in words(found[0])
    (previews,) = (each for each in found if isinstance(each, list) and isinstance(each[0], dict))
    assert [each["caption"].split(",")[0] for each in previews] == ["seed 5", "seed 6", "seed 7"]
    assert sum("the judge's" in each["caption"] for each in previews) == 1
    (reasons,) = (each for each in found if isinstance(each, str) and "<table" in each)
    assert reasons.count("error outside the change") == 2
    finished = client.predict(seed=7, api_name="/search_finish")
    assert words(finished[0]) == "Done: seed 7."
    refused = client.predict(picture=None, instruction="x", seeds=3, api_name="/search")
    assert "There is no picture yet" in words(refused[0])
