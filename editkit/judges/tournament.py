"""A tournament in one bubble pass: the best picture so far against the next (ICEdit, section 3.3)."""

from collections.abc import Mapping

from PIL import Image

from editkit.judges.base import TIE, Case, Judge
from editkit.search_types import Comparison, Verdict


def find_best(
    referee: Judge | None, case: Case, previews: Mapping[int, Image.Image], both_orders: bool = True
) -> tuple[int, list[Comparison]]:
    """Find the best preview in one pass: the best so far against the next; a tie keeps the best so far.

    Args:
        referee: the judge; may be None for a single preview.
        case: the source and the instruction.
        previews: previews by seed.
        both_orders: ask in both picture orders where the answer may depend on the order.

    Returns:
        The winner's seed, and the comparisons.
    """
    best, *challengers = previews
    comparisons = []
    for challenger in challengers:
        assert referee is not None
        verdicts = [referee.compare(case, previews[best], previews[challenger])]
        if both_orders and not referee.symmetric:
            verdicts.append(referee.compare(case, previews[challenger], previews[best]))
        chosen = {"first": best, "second": challenger}.get(_merged(*verdicts))
        comparisons.append(Comparison(seeds=(best, challenger), better=chosen, verdicts=tuple(verdicts)))
        best = best if chosen is None else chosen
    return best, comparisons


def _merged(forth: Verdict, back: Verdict | None = None) -> str:
    """Merge the verdicts for both picture orders; return which picture is better, or a tie."""
    if back is None:
        return forth.better
    if forth.lead is not None and back.lead is not None:
        lead = forth.lead - back.lead
        return "first" if lead > 0 else "second" if lead < 0 else TIE
    return forth.better if {forth.better, back.better} == {"first", "second"} else TIE
