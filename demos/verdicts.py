"""Tell in words what the judge of a seed search found."""

from __future__ import annotations

from html import escape

from demos import theme
from editkit.judges.vlm.prompt import remark
from editkit.search_types import Comparison, SearchFindings

CHOSEN = "1st choice"


def sentence(report: SearchFindings) -> str:
    """Say which seed was chosen, and how clearly."""
    met = [each for each in report.comparisons if report.seed in each.seeds]
    if all(each.better is None for each in report.comparisons):
        return f"The judge saw no difference between the seeds, so seed {report.seed} was kept."
    won = sum(each.better == report.seed for each in met)
    ties = sum(each.better is None for each in met)
    tied = f" and drew {ties}" if ties else ""
    return f"The judge prefers seed {report.seed}: it won {won} of its {len(met)} comparisons{tied}."


def place(report: SearchFindings, seed: int) -> str:
    """Say what became of a seed; one that was best for a while lost in its last comparison."""
    if seed == report.seed:
        return CHOSEN
    last = _last(report, seed)
    other = next(each for each in last.seeds if each != seed)
    return f"as good as seed {other}" if last.better is None else f"lost to seed {other}"


def table(report: SearchFindings) -> str:
    """The sentence, and below it what the judge says of each seed, the winner first."""
    seeds = sorted(report.previews, key=lambda seed: seed != report.seed)
    rows = "".join(_row(report, seed) for seed in seeds)
    head = "<thead><tr><th>seed</th><th>verdict</th><th>what the judge saw</th></tr></thead>"
    steps = theme.hint(f"{report.steps} steps in all, over all seeds.")
    shown = f'<table class="plain">{head}<tbody>{rows}</tbody></table>'
    return f'<p class="verdict">{escape(sentence(report))}</p><div class="scroll">{shown}{steps}</div>'


def _row(report: SearchFindings, seed: int) -> str:
    words = _last(report, seed).seen(seed) or _said(_last(report, seed))
    return f"<tr><td>{seed}</td><td>{place(report, seed)}</td><td>{escape(words)}</td></tr>"


def _last(report: SearchFindings, seed: int) -> Comparison:
    return [each for each in report.comparisons if seed in each.seeds][-1]


def _said(comparison: Comparison) -> str:
    """The judge's own words beside its answers, or why there are none; they call the pictures A and B."""
    lines = []
    for verdict, (first, second) in zip(
        comparison.verdicts, (comparison.seeds, comparison.seeds[::-1]), strict=False
    ):
        said = remark(verdict.reply)
        if verdict.problem:
            lines.append(f"{verdict.problem}: {said or 'it is empty'}")
        elif said:
            lines.append(f"{said} (A is seed {first}, B is seed {second})")
    return "; ".join(lines)
