"""What the judge of a search over seeds found, in words and as a table."""

from __future__ import annotations

from html import escape

from demos import theme
from editkit.search_types import Comparison, SearchFindings


def sentence(report: SearchFindings) -> str:
    """Which seed was chosen, and how clearly."""
    met = [each for each in report.comparisons if report.seed in each.seeds]
    if all(each.better is None for each in report.comparisons):
        return f"The judge saw no difference between the seeds, so seed {report.seed} was kept."
    won = sum(each.better == report.seed for each in met)
    ties = sum(each.better is None for each in met)
    tied = f" and drew {ties}" if ties else ""
    return f"The judge prefers seed {report.seed}: it won {won} of its {len(met)} comparisons{tied}."


def table(report: SearchFindings) -> str:
    """The sentence, and each comparison below it."""
    rows = "".join(map(_row, report.comparisons))
    head = "<thead><tr><th>verdict</th><th>the judge's words</th></tr></thead>"
    steps = theme.hint(f"{report.steps} steps in all, over all seeds.")
    shown = f'<table class="plain">{head}<tbody>{rows}</tbody></table>'
    return f'<p class="verdict">{escape(sentence(report))}</p><div class="scroll">{shown}{steps}</div>'


def _row(comparison: Comparison) -> str:
    first, second = comparison.seeds
    if comparison.better is None:
        verdict = f"seeds {first} and {second} are alike"
    else:
        worse = second if comparison.better == first else first
        verdict = f"seed {comparison.better} is better than seed {worse}"
    said = "; ".join(each.reply for each in comparison.verdicts)
    return f"<tr><td>{verdict}</td><td>{escape(said)}</td></tr>"
