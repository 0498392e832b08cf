"""Damaged files of a run: one sentence that names the file, whatever is wrong with it, and no traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from editkit.errors import EditkitError
from editkit.evaluation import comparison, exports, runner
from editkit.evaluation.report import files, frame, markdown, page, statistics, tables
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests.command_line import Cli, copied, one_sentence, refused
from tests.evaluation.finished import done, scored

DROPPED = object()
VALUES = (None, "x", 3, [{}], {"x": 3}, DROPPED, 10**400)
"""What takes the place of each value in turn; `DROPPED` leaves its key out."""
FREE = ("cost", "depends on", "fields", "identity", "methods", "metrics", "pictures", "results", "values")
"""Objects whose keys are free; the first stands for all."""
OTHERS = ("is not finished", "no layout of results called", "must end in .png", "The result ")
"""Parts of sentences on a text that is well-formed and names another item, layout or picture."""
PLACES = {
    "run.json": None, "gallery.json": None, "items.jsonl": 0,
    "logs/edits-0.jsonl": 0, "logs/scores-0.jsonl": 0,
}  # fmt: skip
"""Files of a run, with the number of the line that is damaged; None for a file of one value."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on sessions of several turns, with a judge's notes on one result."""
    folder = tmp_path_factory.mktemp("damaged")
    found = scored(folder, "magicbrush-multi", {"near": 5, "far": 30}, ["pixels", "preservation"])
    notes = {"said": ["blue"], "reply": "blue", "problems": {"time-out": 1}}
    told = {"viescore judge": {"values": {"sc": 1.0}, "notes": notes}}
    lines = RunFolder(found.path).scores()
    found.log_scores([{**next(lines), "scores": told}])
    log = found.path / "logs" / "scores-0.jsonl"
    *before, last = log.read_text().splitlines()
    log.write_text("\n".join([last, *before]) + "\n")
    return found.path


@pytest.fixture
def estimated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bootstraps of the same figures are drawn once; else they take most of the time."""
    known = cache(statistics.estimate)

    def estimate(values: Sequence[float], groups: Sequence[object] | None = None) -> statistics.Estimate:
        return known(tuple(values), None if groups is None else tuple(groups))

    for module in (frame, comparison):
        monkeypatch.setattr(module, "estimate", estimate)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values within one, by keys and numbers; of a list or free keys the first alone."""
    yield at
    members: list[tuple[Any, Any]] = []
    if isinstance(value, list):
        members = list(enumerate(value))[:1]
    elif isinstance(value, dict):
        members = list(value.items())[: 1 if at and at[-1] in FREE else None]
    for key, each in members:
        yield from places(each, (*at, key))


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """A copy with another value in one place."""
    if not at:
        return new
    made = copy.deepcopy(value)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    if new is DROPPED:
        del inner[at[-1]]
    else:
        inner[at[-1]] = new
    return made


def report(run: Path, out: Path) -> None:
    """A report but for its plots and its writing, which take most of its time."""
    found = frame.read_frame(RunFolder(run))
    markdown.text(found, tables.lines(found))
    page._gallery(RunFolder(run), found)
    files._parquet(RunFolder(run), found)


Act = Callable[[Path, Path], Any]
ACTS: tuple[Act, ...] = (
    report,
    lambda run, out: comparison.compare(run, run),
    lambda run, out: exports.export(run, out),
)


def refusal(act: Act, run: Path, out: Path) -> str:
    """What a command says of a run; empty where it does not refuse it."""
    try:
        act(run, out)
    except EditkitError as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("estimated_once")
@pytest.mark.parametrize("name", PLACES)
def test_every_value_of_a_file_may_be_wrong(name: str, run: Path, tmp_path: Path) -> None:
    """Each command refuses it in one sentence that names the file, or it does not matter."""
    own = copied(run, tmp_path / "run")
    path, line = own / name, PLACES[name]
    lines = path.read_text().splitlines() if line is not None else [path.read_text()]
    whole, sentences, number = json.loads(lines[line or 0]), list[str](), count()
    for at in places(whole):
        for value in VALUES:
            if value is DROPPED and not at:
                continue
            lines[line or 0] = json.dumps(put(whole, at, value))
            path.write_text("\n".join(lines) + "\n")
            for act in ACTS:
                if sentence := refusal(act, own, tmp_path / str(next(number))):
                    sentences.append(sentence)
                    one_sentence(sentence)
                    assert name in sentence or (value == "x" and any(each in sentence for each in OTHERS))
    assert sentences


@pytest.mark.parametrize("data", [b"", b"\0\0\0\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'{"a": 1\n'])
@pytest.mark.parametrize("name", PLACES)
def test_a_file_of_something_else(name: str, data: bytes, run: Path, tmp_path: Path) -> None:
    own = copied(run, tmp_path / "run")
    (own / name).write_bytes(data)
    if name.endswith(".jsonl") and not data:  # results that are not there are no damage
        report(own, tmp_path)
        return
    with pytest.raises(EditkitError, match=name) as refusal:
        report(own, tmp_path)
    one_sentence(str(refusal.value))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("metrics", "pixels"), []),
        (("metrics", "pixels", "columns"), {}),
        (("metrics", "pixels", "columns", 0, "better"), "more"),
        (("metrics", "pixels", "depends on"), None),
        (("contents", "count"), "4"),
        (("contents", "digest"), DROPPED),
        (("config", "methods"), {}),
        (("results", "near"), 3),
    ],
)
def test_commands_refuse_settings_of_another_shape(
    at: tuple[Any, ...], value: Any, run: Path, tmp_path: Path, cli: Cli
) -> None:
    own = copied(run, tmp_path / "run")
    settings = RunFolder(own).settings
    config = settings["config"]
    (own / "run.json").write_text(json.dumps(put(settings, at, value)))
    again = ("eval", "run", config["benchmark"], "--data", config["data"], "--out", own)
    results = [f"--results={name}={where}" for name, where in config["results"].items()]
    for arguments in (
        ("eval", "report", own),
        ("eval", "compare", own, own),
        ("eval", "export", own, "--out", tmp_path / "out"),
        (*again, *results, "--metrics", ",".join(config["metrics"])),
    ):
        refused(cli(*arguments), r"run\.json is not as a run writes it; start the run again")


def test_what_other_versions_add_does_not_matter(run: Path, tmp_path: Path) -> None:
    """Further keys are left alone, and a run goes on."""
    own = copied(run, tmp_path / "run")
    settings = RunFolder(own).settings
    config = RunConfig(**settings["config"] | {"out": str(own)})
    before = frame.read_frame(RunFolder(own))
    for metric in settings["metrics"].values():
        metric["columns"] = [{**column, "later": 3} for column in metric["columns"]]
    (own / "run.json").write_text(json.dumps({**settings, "later": []}))
    for name in ("items.jsonl", "logs/edits-0.jsonl", "logs/scores-0.jsonl"):
        lines = [json.loads(line) for line in (own / name).read_text().splitlines()]
        (own / name).write_text("".join(f"{json.dumps({**line, 'later': 3})}\n" for line in lines))
    assert [row.values for row in frame.read_frame(RunFolder(own)).rows] == [
        row.values for row in before.rows
    ]
    assert runner.failed(config) == 0
    assert [row.values for row in frame.read_frame(done(config)).rows] == [row.values for row in before.rows]


def test_a_report_says_how_many_pictures_and_results_its_gallery_lacks(run: Path, tmp_path: Path) -> None:
    own = copied(run, tmp_path / "run")
    assert page._gallery(RunFolder(own), frame.read_frame(RunFolder(own)))["missing"] == ""
    (own / "gallery" / "near" / "30-1.jpg").unlink()
    log = own / "logs" / "edits-0.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if '"far"' not in line))
    files.write(own)
    text = (own / "report.html").read_text()
    told = "results that the logs do not hold (4), pictures whose files cannot be read (1)"
    assert f"The gallery lacks {told}; run again to make it anew." in text
    assert "data:image/jpeg;base64," in text
