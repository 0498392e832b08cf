"""Law: a recipe gives back what was asked for."""

from editkit.inference import provenance
from editkit.request import FIELDS, PICTURES, SETTINGS, USED, EditRequest


def test_a_recipe_gives_the_request_back() -> None:
    given = {
        "instruction": "make it blue",
        "method": "aceplus",
        "task": "local_editing",
        "seed": 7,
        "steps": 3,
        "guidance": 2.5,
        "size": (64, 48),
        "preserve": False,
        "align": True,
        "negative": "red",
        "speed": "full_steps=2",
    }
    assert given.keys() == set(SETTINGS), "a new field of an edit must go into its recipe"
    request = EditRequest(image=None, **given)
    used = {name: given[name] for name in USED}  # which the pipeline adds
    assert provenance.settings(provenance.make(**provenance.request_settings(request), **used)) == given
    assert {*SETTINGS, *PICTURES, "search"} == set(FIELDS)
