"""The words that an edit asks for, read from its instruction where its item does not name them."""

from __future__ import annotations

import re

from editkit.evaluation.records import Item

DOUBLE, SINGLE = r"[\"\u201c\u201d\u300c\u300d]", r"['\u2018\u2019]"
QUOTED = re.compile(rf"{DOUBLE}(.+?){DOUBLE}|(?<!\w){SINGLE}(.+?){SINGLE}(?!\w)")
ACTS = "write|add|put|make|say|change|replace|remove|delete|erase|take"
CLAUSES = re.compile(rf"[.,;:]|\b(?:then|but|and (?=(?:{ACTS})\b))|[\uff0c\u3002\uff1b并再]")
"""Stands between clauses; "and" only where another act follows it."""
TAKEN_AWAY = re.compile(
    r"\b(?:remove|removing|delete|deleting|erase|erasing)\w*|\bget(?:ting)? rid of\b"
    r"|\b(?:take|wipe|cut)\b.*\b(?:away|off|out)\b"
    r"|\b(?:without|instead of)\b|\bnot\b|n['\u2019]t\b|删除|去掉|去除|移除|擦除",
    re.IGNORECASE,
)
CHANGED = re.compile(r"\b(?:chang|replac|swap|turn)|改|换|变", re.IGNORECASE)
INTO = re.compile(r"\b(?:to|with|by|into)\b|[成为]", re.IGNORECASE)


def asked_words(item: Item, quotes: bool) -> tuple[str, ...]:
    """The texts that an item wants to be readable: its own, else the last quoted ones of its instruction.

    There are none where the clause around them takes them away or changes them into words without quotes.

    Args:
        item: the item.
        quotes: whether quoted texts are asked for.
    """
    if item.words or not quotes:
        return item.words
    quoted = list(QUOTED.finditer(item.instruction))
    if not quoted:
        return ()
    last = quoted[-1]
    before, after = item.instruction[: last.start()], item.instruction[last.end() :]
    head, tail = CLAUSES.split(QUOTED.sub("", before))[-1], CLAUSES.split(after)[0]
    clause = f"{head} {tail}"
    changed = CHANGED.search(clause) and INTO.search(tail) and not INTO.search(head)
    return () if changed or TAKEN_AWAY.search(clause) else (last[1] or last[2],)
