"""Judges: compare two edits of a picture, or score one under a rubric."""

import importlib
from typing import Any

from editkit import config
from editkit.errors import EditkitError, unknown
from editkit.judges.base import TIE, Case, Judge, JudgeError, Reply
from editkit.search_types import Verdict

JUDGES = {
    "preserve": "editkit.judges.preserve",
    "tiny": "editkit.judges.vlm.tiny",
    "qwen-vl": "editkit.judges.vlm.local",
    "openai": "editkit.judges.vlm.remote",
}

__all__ = [
    "JUDGES",
    "TIE",
    "Case",
    "Judge",
    "JudgeError",
    "Reply",
    "Verdict",
    "check_rubric_judge",
    "load_judge",
]


def load_judge(name: str, options: dict[str, Any] | None = None) -> Judge:
    """Load a judge by name.

    Raises:
        EditkitError: for an unknown name or option, or where its model cannot be loaded.
    """
    module = _module(name)
    made: Judge = module.JUDGE(config.build(module.CONFIG, options or {}))
    return made


def check_rubric_judge(name: str, options: dict[str, Any], passes: int) -> type[Judge]:
    """Check, without loading it, that a judge can score under a rubric; return its class.

    Raises:
        EditkitError: for an unknown name or option, a judge that only compares pairs, or several passes of a
            judge that always gives the same reply.
    """
    module = _module(name)
    kind: type[Judge] = module.JUDGE
    if not kind.follows_rubrics:
        able = " or ".join(each for each in JUDGES if _module(each).JUDGE.follows_rubrics)
        raise EditkitError(
            f"The judge {name!r} only compares pairs and cannot score under a rubric; use {able}."
        )
    built = config.build(module.CONFIG, options)
    if passes > 1 and built.temperature == 0:
        raise EditkitError(
            f"The judge {name!r} has temperature 0, so that {passes} passes would give one reply; give "
            "--judge-option temperature=0.7, or one pass."
        )
    return kind


def _module(name: str) -> Any:
    if name not in JUDGES:
        raise EditkitError(unknown("judge", name, JUDGES))
    return importlib.import_module(JUDGES[name])
