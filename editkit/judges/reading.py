"""Read the figures out of a judge's reply."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice

from editkit.judges.base import UNREADABLE, JudgeError

NUMBER = r"[-+]?\d+(?:\.\d+)?"
ITEM = rf"[\"']?{NUMBER}[\"']?"
"""A figure in a list, or a string of one."""
LISTED = re.compile(
    rf"[\"']?scores?[\"']?\s*[:=]\s*\"?\[\s*({ITEM}(?:\s*,\s*{ITEM})*)\s*,?\s*\]", re.IGNORECASE
)
BRACES = 100
"""Largest number of places where JSON may begin; more are rubbish, which takes long to try."""
REASONS = ("reason", "reasoning")
"""Names of the words in a reply of JSON, here and in VIEScore's own questions."""
THOUGHT = re.compile(r"^.*</think(?:ing)?>", re.DOTALL)
"""The thoughts that a model which reasons writes before its answer."""


def figures(reply: str, names: Sequence[str], lowest: float, highest: float) -> list[float]:
    """The figures of an answer, in the order of their names.

    Each is `NAME: 7`, `"NAME": 7` or `**NAME**: 7`, once or with the same value; or all are in one list after
    `score`, in order. What stands before `</think>` does not count.

    Raises:
        JudgeError: where a figure is missing, named twice, or out of range.
    """
    answer = THOUGHT.sub("", reply)
    found = _listed(answer, len(names))
    if found is None:
        found = [_named(answer, name) for name in names]
    for name, value in zip(names, found, strict=True):
        if not lowest <= value <= highest:
            raise JudgeError(
                UNREADABLE,
                f"The judge's reply gives {name} {value:g}, which is not from {lowest:g} to {highest:g}.",
            )
    return found


def words(reply: str) -> str:
    """Return the words of a reply: the reason in its JSON, or else all of it.

    What stands before `</think>` does not count.
    """
    answer = THOUGHT.sub("", reply).strip()
    for brace in islice(re.finditer(r"\{", answer), BRACES):
        try:
            told, _ = json.JSONDecoder().raw_decode(answer, brace.start())
        except (ValueError, RecursionError):
            continue
        if reason := next((told[name] for name in REASONS if isinstance(told.get(name), str)), ""):
            return str(reason).strip()
    return answer


def _listed(answer: str, count: int) -> list[float] | None:
    """The figures of the one list after `score`; None where there is none of this length."""
    lists = {tuple(map(float, re.findall(NUMBER, found))) for found in LISTED.findall(answer)}
    if len(lists) == 1 and len(only := lists.pop()) == count:
        return list(only)
    return None


def _named(answer: str, name: str) -> float:
    words = r"\s+".join(map(re.escape, name.split()))
    pattern = rf"(?<!\w)[\"'*_]*{words}[\"'*_]*\s*[:=][\s\"'*_]*({NUMBER})(?![\w.]*\w)"
    values = set(map(float, re.findall(pattern, answer, re.IGNORECASE)))
    if len(values) != 1:
        what = "two different figures for" if values else "no figure for"
        raise JudgeError(UNREADABLE, f"The judge's reply has {what} {name}: {_short(answer)}")
    return values.pop()


def _short(answer: str) -> str:
    line = " ".join("".join(each if each.isprintable() else " " for each in answer).split())
    return f"{line[:120] or 'it is empty'}."
