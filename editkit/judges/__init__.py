"""Judges: compare two edits of a picture by how well they follow its instruction."""

import importlib
from typing import Any

from editkit import config
from editkit.errors import EditkitError, unknown
from editkit.judges.base import TIE, Case, Judge
from editkit.search_types import Verdict

JUDGES = {
    "preserve": "editkit.judges.preserve",
    "tiny": "editkit.judges.vlm.tiny",
    "qwen-vl": "editkit.judges.vlm.local",
    "openai": "editkit.judges.vlm.remote",
}

__all__ = ["JUDGES", "TIE", "Case", "Judge", "Verdict", "load_judge"]


def load_judge(name: str, options: dict[str, Any] | None = None) -> Judge:
    """Load a judge by name.

    Raises:
        EditkitError: for an unknown name or option, or where its model cannot be loaded.
    """
    if name not in JUDGES:
        raise EditkitError(unknown("judge", name, JUDGES))
    module = importlib.import_module(JUDGES[name])
    made: Judge = module.JUDGE(config.build(module.CONFIG, options or {}))
    return made
