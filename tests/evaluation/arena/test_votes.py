"""Votes: blind pairs, kept once, by many at a time."""

from __future__ import annotations

import csv
import json
import shutil
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from editkit.errors import EditkitError
from editkit.evaluation.arena import Contest, Duel, Votes, open_contest
from editkit.evaluation.benchmarks import open_benchmark
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests.command_line import Cli, refused
from tests.evaluation import samples
from tests.evaluation.finished import done, scored

QUALITIES = ("instruction", "overall")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return scored(tmp_path_factory.mktemp("arena"), "jsonl", {"near": 2, "far": 40, "odd": 9}, ["pixels"])


@pytest.fixture
def contest(run: RunFolder) -> Contest:
    return open_contest([run.path])


def test_every_voter_sees_every_pair_once(contest: Contest, tmp_path: Path) -> None:
    votes, seen = Votes(tmp_path / "v.sqlite"), []
    while duel := contest.next("ann", votes.seen("ann", QUALITIES), votes.counts(QUALITIES)):
        votes.add("ann", duel, dict.fromkeys(QUALITIES, "left"))
        seen.append((duel.item, duel.pair))
    assert len(seen) == len(set(seen)) == 4 * 3
    assert len(votes.all()) == 24
    assert {vote.winner == vote.on_the_left for vote in votes.all()} == {True}


def test_who_has_voted_on_one_quality_is_asked_another(contest: Contest, tmp_path: Path) -> None:
    votes = Votes(tmp_path / "v.sqlite")
    while duel := contest.next("ann", votes.seen("ann", ["overall"]), votes.counts(["overall"])):
        votes.add("ann", duel, {"overall": "left"})
    assert contest.next("ann", votes.seen("ann", QUALITIES), votes.counts(QUALITIES)) is None
    assert votes.counts(["realism"]) == {}
    assert contest.next("ann", votes.seen("ann", ["realism"]), votes.counts(["realism"])) is not None


def test_sides_are_even_and_pairs_fill_up_evenly(contest: Contest, tmp_path: Path) -> None:
    votes, sides = Votes(tmp_path / "v.sqlite"), Counter[bool]()
    for voter in range(40):
        duel = contest.next(str(voter), votes.seen(str(voter), QUALITIES), votes.counts(QUALITIES))
        assert duel is not None
        sides[duel.left < duel.right] += 1
        votes.add(str(voter), duel, {"overall": "tie"})
    counts = votes.counts(QUALITIES).values()
    assert max(counts) - min(counts) <= 1
    assert 8 <= sides[True] <= 32


def test_a_vote_counts_once(contest: Contest, tmp_path: Path) -> None:
    votes = Votes(tmp_path / "v.sqlite")
    duel = Duel(item="item 0", left="near", right="far")
    assert votes.add("ann", duel, {"overall": "left"}) == 1
    turned = Duel(item="item 0", left="far", right="near")
    assert votes.add("ann", turned, {"overall": "left"}) == 0
    assert [vote.winner for vote in votes.all()] == ["near"]
    with pytest.raises(EditkitError, match="left, right or tie, not 'both'"):
        votes.add("ann", duel, {"instruction": "tie", "overall": "both"})
    assert len(votes.all()) == 1


def test_many_vote_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "v.sqlite"
    Votes(path)

    def voter(number: int) -> None:
        own = Votes(path)
        for item in range(15):
            own.add(str(number), Duel(item=str(item), left="a", right="b"), dict.fromkeys(QUALITIES, "right"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(voter, range(8)))
    assert len(Votes(path).all()) == 8 * 15 * 2


def test_votes_are_exported(tmp_path: Path) -> None:
    votes = Votes(tmp_path / "v.sqlite")
    votes.add("ann", Duel(item='odd, "item"', left="b", right="a"), {"overall": "left"})
    assert votes.export(tmp_path / "v.csv") == votes.export(tmp_path / "v.json") == 1
    (row,) = csv.DictReader((tmp_path / "v.csv").open())
    (told,) = json.loads((tmp_path / "v.json").read_text())
    assert row["winner"] == told["winner"] == "b"
    assert row["item"] == told["item"] == 'odd, "item"'
    with pytest.raises(EditkitError, match=r"as \.csv or \.json"):
        votes.export(tmp_path / "v.txt")


def test_pictures_do_not_tell_whose_they_are(contest: Contest) -> None:
    assert contest.picture("near", "item 0").info == {}
    assert contest.source("item 0") is not None


def test_a_method_of_two_runs_has_two_names(run: RunFolder, tmp_path: Path) -> None:
    other, third = tmp_path / "again", tmp_path / "c" / run.path.name
    for copy in (other, third):
        shutil.copytree(run.path, copy)
    made = open_contest([run.path, other])
    assert {f"{run.path.name}: near", "again: near"} <= made.results.keys()
    assert len(made.results) == 6
    assert len(open_contest([run.path, third]).results) == 6
    (tmp_path / "link").symlink_to(run.path)
    with pytest.raises(EditkitError, match="given twice"):
        open_contest([run.path, tmp_path / "link"])


@pytest.mark.parametrize("benchmark", ["jsonl", "mine.yaml"])
def test_a_contest_is_opened_from_another_folder(
    benchmark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run whose data, results and own benchmark were given by relative paths."""
    (tmp_path / "mine.yaml").write_text("name: mine\nreader: table\noptions: {layout: jsonl, id: '{id}'}\n")
    data = samples.jsonl(tmp_path / "data")
    for name, change in (("near", 5), ("far", 30)):
        samples.copied_results(open_benchmark("jsonl", data), tmp_path / name, change)
    monkeypatch.chdir(tmp_path)
    config = RunConfig(
        benchmark=benchmark,
        data="data/items.jsonl",
        results={"near": "near", "far": "far"},
        metrics=["pixels"],
        out="run",
    )
    done(config)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    contest = open_contest([tmp_path / "run"])
    assert contest.source("item 0") is not None
    assert contest.picture("near", "item 0").size == samples.SIZE


def test_what_cannot_be_compared_is_refused(run: RunFolder, tmp_path: Path) -> None:
    alone = scored(tmp_path / "one", "jsonl", {"near": 2}, ["pixels"])
    with pytest.raises(EditkitError, match="needs two methods"):
        open_contest([alone.path])
    other = scored(tmp_path / "two", "kontext-bench", {"near": 2}, ["source-pixels"])
    with pytest.raises(EditkitError, match="of different items"):
        open_contest([run.path, other.path])
    (tmp_path / "text.sqlite").write_text("no database, but a text that is long enough to be looked at")
    with pytest.raises(EditkitError, match="cannot be used"):
        Votes(tmp_path / "text.sqlite")


def test_the_commands_without_a_page(cli: Cli, run: RunFolder, tmp_path: Path) -> None:
    refused(cli("arena", run.path, "--ranking"), "There are no votes")
    refused(cli("arena", tmp_path / "none"), "is no run's folder")
    refused(cli("arena", run.path, "--qualities", "a,a"), "names none, or one twice")
    votes = Votes(tmp_path / "v.sqlite")
    for item in range(6):
        votes.add("ann", Duel(item=str(item), left="near", right="far"), {"overall": "left"})
    made = cli(
        "arena", run.path, "--votes", tmp_path / "v.sqlite", "--ranking", "--export", tmp_path / "v.csv"
    )
    assert made.status == 0
    lines = [line for line in made.out.splitlines() if "overall" in line]
    assert "near" in lines[0]
    assert (tmp_path / "v.csv").is_file()
    votes.add("ann", Duel(item="0", left="near", right="far"), {"realism": "left"})
    ranked = ("arena", run.path, "--votes", tmp_path / "v.sqlite", "--ranking", "--qualities")
    assert "overall" not in cli(*ranked, "realism").out
    refused(cli(*ranked, "realism,taste"), "There are no votes on 'taste'; there are on overall, realism")


def test_items_that_are_left_out_are_counted(tmp_path: Path, cli: Cli) -> None:
    """Later turns of chained sessions, and an item of which one contestant has no picture."""
    run = scored(tmp_path, "magicbrush-multi", {"near": 2, "far": 40}, ["pixels"])
    (tmp_path / "far-40" / "30" / "30_1.png").unlink()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = cli("arena", run.path, "--port", taken.getsockname()[1])
    assert told.status == 2
    assert "note: 2 of 4 items are left out: they are later turns, which have no source that all" in told.err
    assert "note: 1 of 4 items are left out: fewer than two contestants have a picture of them" in told.err
