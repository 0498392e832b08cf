"""Results in benchmarks' own layouts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from editkit.errors import EditkitError
from editkit.evaluation import exports
from editkit.evaluation.report import frame
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests.command_line import files, one_sentence
from tests.evaluation import samples
from tests.evaluation.finished import done, scored


def judged(folder: RunFolder, metric: str, values: dict[str, float], notes: dict[str, str]) -> None:
    """Add a judge's scores to every result, as a judge would log them."""
    told = {"values": values, "notes": notes}
    folder.log_scores(
        [
            {"method": row.method, "item": row.item["id"], "scores": {metric: told}}
            for row in frame.read_frame(folder).rows
        ]
    )


def test_magicbrush_all_turns(tmp_path: Path) -> None:
    run = scored(tmp_path, "magicbrush", {"near": 5}, ["pixels"])
    notes = exports.export(run.path, tmp_path / "out")
    assert notes == ["near has no clip-i, dino, clip-t, as their metrics were left out."]
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    turns = ("30/30_1", "139/139_1", "139/139_inde_2", "139/139_inde_3")
    assert names == {f"near/{turn}.png" for turn in turns}
    told = json.loads((tmp_path / "out" / "near_evaluated_metrics.json").read_text())
    rows = frame.read_frame(run).rows
    assert told["all_turn"]["l1"] == pytest.approx(sum(row.values["l1"] for row in rows) / 4)


def test_magicbrush_final_turns(tmp_path: Path) -> None:
    run = scored(tmp_path, "magicbrush-multi", {"near": 5}, ["pixels"])
    exports.export(run.path, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "near_evaluated_metrics.json").read_text())
    last = [row.values["l1"] for row in frame.read_frame(run).rows if row.item["last"]]
    assert len(last) == 2
    assert told["final_turn"]["l1"] == pytest.approx(sum(last) / 2)
    assert (tmp_path / "out" / "near" / "139" / "139_iter_3.png").is_file()


@pytest.mark.parametrize(("name", "told"), [("magicbrush", "1 of 4"), ("magicbrush-multi", "1 of 2")])
def test_magicbrush_says_how_many_failures_its_means_leave_out(name: str, told: str, tmp_path: Path) -> None:
    run = scored(tmp_path, name, {"near": 5}, ["pixels"])
    results = Path(run.settings["results"]["near"])
    (lost,) = results.rglob("139_*3.png")
    lost.unlink()
    config = RunConfig(**{**run.settings["config"], "out": str(tmp_path / "again")})
    notes = exports.export(done(config).path, tmp_path / "out")
    assert notes[0] == f"near failed for {told} results, which its means leave out."


def test_gedit(tmp_path: Path) -> None:
    run = scored(tmp_path, "gedit", {"near": 5}, ["preservation"])
    assert "has no scores of a judge" in exports.export(run.path, tmp_path / "bare")[0]
    assert (tmp_path / "bare" / "near" / "fullset" / "ps_human" / "en" / "en2.png").is_file()
    judged(run, "viescore", {"sc": 7.0, "pq": 6.0}, {"reply": "fine"})
    assert exports.export(run.path, tmp_path / "out") == []
    with (tmp_path / "out" / "near_ps_human_en_vie_score.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["sementics_score"], row["quality_score"]) == ("7.0", "6.0")
    assert (row["intersection_exist"], row["instruction_language"]) == ("True", "en")
    assert row["edited_image"] == str(tmp_path / "out/near/fullset/ps_human/en/en2.png")
    with Image.open(row["source_image"]) as source:  # without which GEdit's script leaves the result out
        assert Path(row["source_image"]).name == "en2_SRCIMG.png"
        assert source.convert("RGB").tobytes() == samples.picture(12).tobytes()
    assert len(list((tmp_path / "out").rglob("*_SRCIMG.png"))) == 3
    (tmp_path / "data").rename(tmp_path / "moved")
    (note,) = exports.export(run.path, tmp_path / "later")
    assert "3 items have no _SRCIMG.png" in note
    one_sentence(note)


def test_imgedit(tmp_path: Path) -> None:
    run = scored(tmp_path, "imgedit", {"near": 5}, ["preservation"])
    judged(run, "imgedit judge", {"imgedit": 4.33}, {"reply": "Prompt Compliance: 4"})
    assert exports.export(run.path, tmp_path / "out") == []
    folder = tmp_path / "out" / "near"
    assert {path.name for path in folder.glob("*.png")} == {"1000.png", "1001.png", "1002.png"}
    assert json.loads((folder / "average_score.json").read_text())["1001"] == 4.33
    assert json.loads((folder / "result.json").read_text())["1002"] == "Prompt Compliance: 4"


def test_imgedit_has_each_turn_of_a_session(tmp_path: Path) -> None:
    items, _ = samples.split(benchmark := samples.opened("imgedit-multi", tmp_path / "data"))
    for item in items:
        samples.saved(tmp_path / "near" / item.published, item.turn)
    run = done(
        RunConfig(
            benchmark="imgedit-multi", data=str(benchmark.data), results={"near": str(tmp_path / "near")},
            metrics=["preservation"], out=str(tmp_path / "run"),
        )
    )  # fmt: skip
    judged(run, "imgedit judge", {"imgedit": 4.0}, {"reply": "fine"})
    exports.export(run.path, tmp_path / "out")
    folder = tmp_path / "out" / "near"
    turns = {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.png")}
    assert len(turns) == len(frame.read_frame(run).rows)
    assert json.loads((folder / "average_score.json").read_text()).keys() == turns


def test_refusals(tmp_path: Path) -> None:
    run = scored(tmp_path, "jsonl", {"near": 5}, ["pixels"])
    with pytest.raises(EditkitError, match="has no layout of results of its own"):
        exports.export(run.path, tmp_path / "out")
    with pytest.raises(EditkitError, match="There is no layout of results called 'gedt'"):
        exports.export(run.path, tmp_path / "out", "gedt")
    with pytest.raises(EditkitError, match="is not one of jsonl"):
        exports.export(run.path, tmp_path / "out", "gedit")
    assert not (tmp_path / "out").exists()


def test_an_export_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """The second picture cannot be read; the folder that was given is as it was before."""
    run = scored(tmp_path, "magicbrush", {"near": 5}, ["pixels"])
    last = run.path / frame.read_frame(run).rows[-1].picture
    whole = last.read_bytes()
    last.unlink()
    out = tmp_path / "out"
    with pytest.raises(EditkitError, match="cannot be written"):
        exports.export(run.path, out)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(EditkitError, match="cannot be written"):
        exports.export(run.path, out)
    assert files(tmp_path / "out") == {}
    assert not list(tmp_path.glob(".*.part"))
    last.write_bytes(whole)
    exports.export(run.path, out)
    assert (out / "near_evaluated_metrics.json").is_file()
