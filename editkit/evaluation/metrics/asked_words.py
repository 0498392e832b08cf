"""The words that an edit asks for, read from its instruction where its item does not name them."""

from __future__ import annotations

import re

from editkit.evaluation.records import Item

DOUBLE, SINGLE = r"[\"\u201c\u201d\u300c\u300d]", r"['\u2018\u2019]"
QUOTED = re.compile(rf"{DOUBLE}(.+?){DOUBLE}|(?<!\w){SINGLE}(.+?){SINGLE}(?!\w)")

FLAGS = re.IGNORECASE | re.DOTALL
PAUSE, STOP = r"\uff0c\u3002\uff1b\u3001", r"\uff0c\u3002\uff1b"
"""Chinese punctuation between clauses."""
WRITE = "write|add|put|insert|place|print|paint|make|let|set|draw|show|display|type|use"
REPLACE = "chang(?:e|es|ing)|replac(?:e|es|ing)|swap|substitute|turn|convert|transform|alter|edit|modify"
LIFT, OFF = "(?:take|taking|wipe|rub|cross|scratch|cut)", "(?:away|off|out|down)"
ERASE = "删除|删掉|删去|去掉|去除|移除|擦除|擦掉|抹去|抹掉|消除|清除"
REMOVE = (
    r"\b(?:remov(?:e|es|ing)|delet(?:e|es|ing)|eras(?:e|es|ing)|eliminate|omit|avoid|never|cannot|without"
    r"|no longer|instead of|rather than|leave out|paint over|get(?:ting)? rid of"
    rf"|(?:do|does|should|must|can) not|{LIFT}\s.*\b{OFF})\b|\w+n['\u2019]t\b|{ERASE}|不要"
)
ANOTHER_ACT = (
    rf"(?:[,.;:\"]|\b(?:and|then|but)\b)\s*(?:\w+\s+)?(?:{WRITE}|{REPLACE})\b"
    rf"|[{PAUSE},\"并再后]\w?(?:写|加|添|印|放|改|换|变)"
)
"""Begins an act that brings words, after one that takes some away."""
REMOVED_BY = re.compile(rf"(?:{REMOVE})(?!.*(?:{ANOTHER_ACT}))", FLAGS)
"""Stands before words that are to go, as in `remove the text`."""
REMOVED = re.compile(
    r"[^.;,]*?\b(?:(?:is|are|be|gets?)\s+(?:gone|removed|deleted|erased)|disappear|vanish"
    r"|(?:is|are|be)\s+(?:changed|replaced|turned|swapped|converted)\s+(?:to|with|by|into))\b"
    rf"|[^{PAUSE},.并和]*?(?:{ERASE})",
    FLAGS,
)
"""Stands after words that are to go, as in `should be removed`."""
AROUND = tuple(
    (re.compile(before, FLAGS), re.compile(after, FLAGS))
    for before, after in (
        (rf"\b(?:{REPLACE})\b(?!.*\b(?:to|with|by|into|{WRITE})\b)", r"[^.;]*?\b(?:to|with|by|into)\b"),
        ("[把将]", rf"[^{STOP}]*?(?:改|换|变)"),
        (rf"\b{LIFT}\b(?!.*(?:{ANOTHER_ACT}))", rf"[^.;,]*?\b{OFF}\b"),
    )
)
"""Stand before and after words that are to go, as in `change the word` and `to HATE`."""


def asked_words(item: Item, quotes: bool) -> tuple[str, ...]:
    """The texts that an item wants to be readable: its own, else the last quoted ones of its instruction.

    There are none where the instruction removes or replaces those: what it wants instead has no quotes.

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
    before = QUOTED.sub('"', item.instruction[: last.start()])  # a mark stands for each earlier quoted text
    after = item.instruction[last.end() :]
    around = any(first.search(before) and second.match(after) for first, second in AROUND)
    return () if around or REMOVED_BY.search(before) or REMOVED.match(after) else (last[1] or last[2],)
