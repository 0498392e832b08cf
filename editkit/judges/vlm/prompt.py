"""Write the question to a vision-language model about two edits, and read its reply."""

import re

from editkit.judges.base import TIE, Case

EDITED = (
    "The first picture is the original, the second and the third are two attempts, A and B, at this edit:"
)
MADE = "The two pictures are two attempts, A and B, at this:"
QUESTION = (
    "{opening} {instruction}\nWhich attempt does what was asked and leaves the rest alone? "
    "Answer with one line of JSON and nothing else: "
    '{{"better": "A"}} or {{"better": "B"}}, or {{"better": "tie"}} where you cannot tell.'
)
ANSWER = re.compile(r'"better"\s*:\s*"(A|B|tie)"')
ANSWERED = re.compile(r"```\w*|\{[^{}]*\"better\"[^{}]*\}")
"""The answer with what is around it."""
BETTER = {"A": "first", "B": "second", "tie": TIE}


def question(case: Case, wording: str = QUESTION) -> str:
    """Return the text that goes with the original, if there is one, and the two edits, in this order.

    Args:
        case: the source and its instruction.
        wording: text with the places {opening} and {instruction}.
    """
    return wording.format(opening=MADE if case.source is None else EDITED, instruction=case.instruction)


def read_reply(reply: str) -> tuple[str, str]:
    """Return the better edit (`first`, `second`, or '' for neither) and why the reply is unusable, or ''."""
    answers = set(ANSWER.findall(reply))
    if len(answers) != 1:
        return TIE, "the reply names no single answer"
    return BETTER[answers.pop()], ""


def remark(reply: str) -> str:
    """Return what a reply says beside its answer, on one line."""
    return " ".join(ANSWERED.sub(" ", reply).split())
