"""Settings of a run: what a later call may change, and what is refused before it begins."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import save_file

import editkit
from editkit import adapters
from editkit.backbone import Backbone
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.evaluation import runner
from editkit.evaluation.chunks import from_environment
from editkit.evaluation.report import frame, gallery, markdown
from editkit.evaluation.run_folder import RunFolder
from editkit.evaluation.settings import RunConfig
from tests import ROOT
from tests.command_line import Cli, refused
from tests.evaluation import samples
from tests.evaluation.finished import done, table


def test_shares_of_their_own_come_in_any_order(existing: RunConfig, tmp_path: Path) -> None:
    """The first one begins the run, the last one chooses the best and worst of all."""
    whole = done(existing)
    shared = replace(existing, out=str(tmp_path / "shared"))
    for rank in (1, 0):
        share, wait = from_environment(f"{rank}/2")
        folder = done(shared, share=share, wait=wait)
    assert table(folder) == table(whole)
    chosen = [json.loads((each.path / gallery.INDEX).read_text()) for each in (folder, whole)]
    assert chosen[0] == chosen[1]
    share, wait = from_environment("1/2")
    with pytest.raises(EditkitError, match="has steps=None, and 7 is given"):
        done(replace(shared, steps=7), share=share, wait=wait)


def test_what_a_killed_process_half_wrote_is_no_other_run(existing: RunConfig) -> None:
    Path(existing.out).mkdir()
    (Path(existing.out) / ".0123456789abcdef.part").write_text("{")
    assert len(table(done(existing))) == 40


def test_other_settings_need_another_folder(existing: RunConfig) -> None:
    done(existing)
    with pytest.raises(EditkitError, match="has limit=None, and 3 is given; choose another --out"):
        done(replace(existing, limit=3))
    (Path(existing.out) / "run.json").unlink()
    with pytest.raises(EditkitError, match="holds something else"):
        done(existing)


@pytest.mark.parametrize("changed", ["source", "answer", "mask"])
def test_pictures_that_a_run_has_used_must_not_change(changed: str, existing: RunConfig) -> None:
    """Their ids and words are the same, so that old figures would stand beside new pictures."""
    folder = done(existing)
    before, items = table(folder), (folder.path / "items.jsonl").read_bytes()
    pictures = Path(str(existing.data)).parent / changed
    old = (pictures / "2.png").read_bytes()
    samples.picture(99).save(pictures / "2.png")
    with pytest.raises(EditkitError, match=f"The {changed} of item 2 has changed since .* another --out"):
        done(existing)
    assert (folder.path / "items.jsonl").read_bytes() == items
    (pictures / "2.png").write_bytes(old)
    assert table(done(existing)) == before
    (folder.path / "items.jsonl").write_text(
        "".join(json.dumps({**line, "pictures": None}) + "\n" for line in folder.items())
    )
    samples.picture(99).save(pictures / "2.png")
    done(existing)  # an older run, whose items have no digests


def test_a_source_that_was_edited_must_not_change(tmp_path: Path, random_flux: Backbone) -> None:
    data = samples.jsonl(tmp_path / "data", 2)
    config = RunConfig(
        benchmark="jsonl", data=str(data), methods=["kontext"], steps=1, metrics=["cost"], backbone="tiny",
        out=str(tmp_path / "run"),
    )  # fmt: skip
    for changed in ("answer", "source"):
        folder = done(config, lambda: Editor(random_flux))
        (folder.path / "logs" / "scores-0.jsonl").unlink()  # as if it had been killed before it scored
        samples.picture(99).save(data.parent / changed / "1.png")
    with pytest.raises(EditkitError, match="The source of item 1 has changed since this run used it"):
        done(config, lambda: Editor(random_flux))


@pytest.mark.parametrize("own", [False, True], ids=["of every method", "a method's own"])
def test_an_adapter_that_edited_must_not_change(own: bool, tmp_path: Path) -> None:
    """As where a LoRA is trained again into its folder: old edits would stand for the new one."""
    shipped = ROOT / "methods" / "icedit" / "tiny" / "lora"
    lora = Path(shutil.copytree(shipped, tmp_path / "lora"))
    named = {"options": {"icedit": {"adapter": str(lora)}}} if own else {"lora": {str(lora): 0.5}}
    config = RunConfig(
        benchmark="shapesworld", methods=["icedit"], limit=1, steps=1, metrics=["pixels"], backbone="tiny",
        out=str(tmp_path / "run"), **named,
    )  # fmt: skip
    load = partial(editkit.load, "tiny", "cpu", options=config.options, lora=config.lora)
    before = table(done(config, load))
    state, about = adapters.read_adapter(lora)
    file, old = adapters.file(lora), adapters.file(lora).read_bytes()
    save_file({key: 2 * value for key, value in state.items()}, file, about)
    with pytest.raises(EditkitError, match=r"The adapter .*lora has changed since icedit edited with it; "):
        done(config, load)
    file.write_bytes(old)
    assert table(done(config, load)) == before


def test_what_an_earlier_call_left_out_and_edited_with_is_told(tmp_path: Path, tiny: Backbone) -> None:
    data = samples.jsonl(tmp_path / "data", 1)
    results = samples.copied_results(runner.open_benchmark("jsonl", data), tmp_path / "theirs", 9)
    config = RunConfig(
        benchmark="jsonl", data=str(data), methods=["kontext"], steps=1, metrics=["pixels", "dino"],
        metric_options={"dino": {"model": str(tmp_path / "none")}}, out=str(tmp_path / "run"),
    )  # fmt: skip
    done(config, lambda: Editor(tiny))
    folder = done(replace(config, methods=[], results={"theirs": str(results)}, metrics=["pixels"],
                          metric_options={}))  # fmt: skip
    told = "\n".join(markdown.summary(frame.read_frame(folder)))
    assert "backbone tiny, steps 1" in told
    assert "The metric dino is left out." in told


def test_settings_of_a_run_that_began_nothing_may_change(tmp_path: Path, random_flux: Backbone) -> None:
    """As after a precision that the backbone refuses: the folder holds settings, and no result of them."""
    config = RunConfig(
        benchmark="shapesworld", methods=["kontext"], limit=1, steps=1, metrics=["pixels"], dtype="float3",
        out=str(tmp_path / "run"),
    )  # fmt: skip

    def refuse() -> Editor:
        raise EditkitError("The dtype 'float3' is unknown.")

    with pytest.raises(EditkitError, match="float3"):
        done(config, refuse)
    folder = done(replace(config, dtype=None), lambda: Editor(random_flux))
    assert folder.settings["identity"]["dtype"] is None
    assert len(frame.read_frame(folder).rows) == 1
    with pytest.raises(EditkitError, match="has dtype=None"):
        done(config, refuse)


def test_results_of_one_name_come_from_one_folder(existing: RunConfig, tmp_path: Path) -> None:
    """Else the table would mix the pictures of two systems, and name the second one's folder."""
    before = table(done(existing))
    other = samples.copied_results(runner.open_benchmark("jsonl", existing.data), tmp_path / "other", 40)
    with pytest.raises(EditkitError, match=r"has theirs from .*theirs, and .*other is given"):
        done(replace(existing, results={"theirs": str(other)}))
    assert table(RunFolder(existing.out)) == before
    both = frame.read_frame(
        done(replace(existing, results={"theirs": existing.results["theirs"], "b": str(other)}))
    )
    assert both.methods == ["theirs", "b"]


def test_wrong_fields_of_requests_are_refused_at_once(tmp_path: Path, cli: Cli) -> None:
    run = ("eval", "run", "shapesworld", "-m", "kontext", "--limit", 1, "-o", tmp_path / "run")
    refused(cli(*run, "--request", "seed=3"), "request may hold task, .*speed, not 'seed'")
    refused(cli(*run, "--request", "size=12"), "size=12 is not allowed")
    refused(cli(*run, "--request", "speed=quick"), "quick")
    refused(cli(*run, "--steps", 1001), "steps=1001 is not allowed")
    refused(cli(*run, "--seed", 2**63), "seed must be at most")
    refused(cli(*run, "--limit", 2**63), "limit must be at most")
    assert not (tmp_path / "run").exists()


def test_settings_of_edits_are_told_where_nothing_is_edited(
    existing: RunConfig, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a YAML, too, but not those that stand for all of a person's commands."""
    written = Path(existing.out).with_name("run.yaml")
    written.write_text(
        f"benchmark: jsonl\ndata: {existing.data}\nresults: {existing.results}\nmetrics: [pixels]\n"
        "masks: true\n"
    )
    monkeypatch.setenv("EDITKIT_DTYPE", "float16")
    told = cli("eval", "run", written, "--steps", 4, "--option", "kontext.area=65536", "--dry-run")
    assert told.status == 0
    assert told.err == (
        "note: no method is named, so that nothing is edited and options, steps, masks have no use\n"
    )
