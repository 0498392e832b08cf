"""What a vision-language model is asked about two edits, and how its reply is read."""

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
BETTER = {"A": "first", "B": "second", "tie": TIE}


def question(case: Case, wording: str = QUESTION) -> str:
    """The text that goes with the original, if there is one, and the two attempts, in this order.

    Args:
        case: what was to be done.
        wording: has the place {instruction}, and may have {opening}, which says what the pictures are.
    """
    return wording.format(opening=MADE if case.source is None else EDITED, instruction=case.instruction)


def read(reply: str) -> tuple[str, str]:
    """The better edit (`first`, `second`, or empty for neither) and why the reply cannot be used, or ''."""
    answers = set(ANSWER.findall(reply))
    if len(answers) != 1:
        return TIE, "the reply names no single answer"
    return BETTER[answers.pop()], ""
