"""Jobs that are killed and started again give what uninterrupted ones give, and make nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit import EditkitError, EditRequest
from editkit.inference import provenance
from editkit.serving.jobs import job, plan
from editkit.serving.jobs.job import Share
from editkit.serving.jobs.store import Store
from tests import ROOT
from tests.cases import Place
from tests.command_line import Cli, one_sentence, refused
from tests.pictures import difference, image
from tests.serving.manifests import content, items, logged, rows, whole


@pytest.fixture(scope="module")
def editor(random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux)


def test_pictures_are_those_of_single_edits(editor: editkit.Editor, tmp_path: Path) -> None:
    found = items(rows(tmp_path, 8))
    told = whole(editor, found, tmp_path / "out")
    assert sorted(made.name for made in told) == [item.name for item in found]
    for item in found:
        made = next(each for each in told if each.name == item.name)
        if "missing" in str(item.row["image"]):
            assert made.error is not None
            assert "missing.png" in made.error
            continue
        request = item.request()
        alone = editor.run(request)
        picture = tmp_path / "out" / f"{item.name}.png"
        assert difference(Image.open(picture), alone.image) <= 1
        assert provenance.read_recipe(picture)["seed"] == request.seed


def test_several_processes_give_the_same(editor: editkit.Editor, tmp_path: Path) -> None:
    found = items(rows(tmp_path, 8))
    whole(editor, found, tmp_path / "one")
    for place in (2, 0, 1):
        assert not (tmp_path / "three" / "recipes.parquet").exists()
        whole(editor, found, tmp_path / "three", Share(place=place, of=3))
    assert content(tmp_path / "three") == content(tmp_path / "one")
    assert logged(tmp_path / "three") == [item.name for item in found]
    assert {share.range(8) for share in (Share(place=place, of=12) for place in range(12))} >= {
        (0, 0),
        (0, 1),
    }


def test_two_runs_do_not_mix(editor: editkit.Editor, tmp_path: Path) -> None:
    """Locks hold between processes, so that one of its own is asked."""
    store = Store(tmp_path / "out", {})
    script = (
        "import json, sys; from pathlib import Path; from editkit.errors import EditkitError\n"
        "from editkit.serving.jobs.store import Store\n"
        "for first, last in json.loads(sys.argv[2]):\n"
        "    try:\n"
        "        with Store(Path(sys.argv[1]), {}).locked(first, last): print('free')\n"
        "    except EditkitError as error: print(error)\n"
    )

    def asked(*spans: tuple[int, int]) -> list[str]:
        run = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "out", json.dumps(spans)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        return run.stdout.splitlines()

    with store.locked(2, 5):
        behind, across, before = asked((5, 9), (4, 9), (0, 3))
        assert behind == "free"
        assert "Another run" in across
        one_sentence(before)
    assert asked((0, 9)) == ["free"]


def test_what_changed_is_refused(editor: editkit.Editor, tmp_path: Path) -> None:
    found = items(rows(tmp_path, 4))
    whole(editor, found, tmp_path / "out")
    with pytest.raises(EditkitError, match="begun with batch_size=3"):
        Store(tmp_path / "out", {"batch_size": 4})
    with pytest.raises(EditkitError, match="holds no job"):
        Store(tmp_path, {})
    (tmp_path / "m.jsonl").write_text((tmp_path / "m.jsonl").read_text().replace("make it 3", "make it 9"))
    with pytest.raises(EditkitError, match="000003 has changed"):
        whole(editor, items(tmp_path / "m.jsonl"), tmp_path / "out")
    with pytest.raises(EditkitError, match="no longer in the manifest"):
        job.check_items(items(tmp_path / "m.jsonl")[:2], Store(tmp_path / "out", {"batch_size": 3}).done())


def test_failed_items_are_made_again_where_asked(editor: editkit.Editor, tmp_path: Path) -> None:
    found = items(rows(tmp_path, 4))
    store = Store(tmp_path / "out", {})
    image(24, 24).save(tmp_path / "kept.png")
    batches = plan.batches(found, 2)
    job.run(lambda: editor, batches, store, Share())
    assert [made.name for made in store.done().values() if made.error] == ["000002"]

    def never() -> editkit.Editor:
        raise AssertionError("everything is done")

    job.run(never, batches, Store(tmp_path / "out", {}), Share())
    job.run(lambda: editor, batches, store, Share(), retry=True)
    assert logged(tmp_path / "out").count("000002") == 2


def test_a_failed_item_may_be_mended(editor: editkit.Editor, tmp_path: Path) -> None:
    """Its row, or its picture; without being asked for, a failure stays as it is."""
    source = rows(tmp_path, 4)
    lines = source.read_text().splitlines()
    source.write_text("\n".join([*lines[:3], "no JSON", *lines[3:]]) + "\n")
    store = Store(tmp_path / "out", {})

    def run(retry: bool) -> dict[str, str | None]:
        batches = plan.batches(items(source), 2)
        job.run(lambda: editor, batches, store.detached(), Share(), retry=retry)
        made = job.finish(items(source), store)
        assert made is not None
        return {each.name: each.error for each in made}

    failed = {name: error for name, error in run(retry=False).items() if error}
    assert list(failed) == ["000002", "000003"]
    source.write_text("\n".join([*lines[:3], lines[0].replace("make", "paint"), *lines[3:]]) + "\n")
    image(24, 24).save(tmp_path / "missing.png")
    assert {name: error for name, error in run(retry=False).items() if error} == failed
    (tmp_path / "missing.png").write_bytes(b"damaged")
    (name, error), *more = ((name, error) for name, error in run(retry=True).items() if error)
    assert (name, more) == ("000002", [])
    assert error != failed["000002"]  # the last failure is told
    image(24, 24).save(tmp_path / "missing.png")
    assert set(run(retry=True).values()) == {None}
    assert [path.stem for path in sorted((tmp_path / "out").glob("*.png"))] == [
        f"{place:06d}" for place in range(5)
    ]


def test_lost_pictures_are_made_again(editor: editkit.Editor, tmp_path: Path) -> None:
    found = items(rows(tmp_path, 8))
    whole(editor, found, tmp_path / "out")
    before = content(tmp_path / "out")
    (tmp_path / "out" / "000001.png").unlink()
    store = Store(tmp_path / "out", {"batch_size": 3})
    assert job.finish(found, store) is None
    whole(editor, found, tmp_path / "out")
    assert content(tmp_path / "out") == before
    names = logged(tmp_path / "out")
    assert [name for name in set(names) if names.count(name) > 1] == ["000001"]


def test_settings_of_a_job_that_made_nothing_may_change(tmp_path: Path) -> None:
    """As after an option that the backbone refused; not while another run is about to begin."""
    store = Store(tmp_path / "out", {"dtype": "float31"})
    asked = "import sys; from pathlib import Path; from editkit.serving.jobs.store import Store\n"
    other = [sys.executable, "-c", asked + "Store(Path(sys.argv[1]), {'dtype': None})", tmp_path / "out"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with store.locked(2, 5):
        run = subprocess.run(other, capture_output=True, text=True, check=False, env=env)
        assert "was begun with dtype='float31'" in run.stderr
    subprocess.run(other, check=True, env=env)
    assert json.loads((tmp_path / "out" / "job.json").read_text()) == {"dtype": None}


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff"])
def test_damaged_settings(tmp_path: Path, data: bytes) -> None:
    Store(tmp_path / "out", {})
    (tmp_path / "out" / "job.json").write_bytes(data)
    with pytest.raises(EditkitError, match=r"job\.json.* another --out") as error:
        Store(tmp_path / "out", {})
    one_sentence(str(error.value))


@pytest.mark.parametrize("line", ["{", "[]", '{"name": "a"}'])
def test_a_damaged_log(tmp_path: Path, line: str) -> None:
    store = Store(tmp_path / "out", {})
    (tmp_path / "out" / "log").mkdir()
    (tmp_path / "out" / "log" / "a.jsonl").write_text(f"{line}\n")
    with pytest.raises(EditkitError, match=r"Line 1 of .*a\.jsonl is damaged") as error:
        store.done()
    one_sentence(str(error.value))


def test_the_command(cli: Cli, place: Place) -> None:
    source = rows(place.folder, 4)
    asked = (
        "batch",
        source,
        "--out",
        "out",
        "-b",
        place.backbone,
        "--device",
        "cpu",
        "--batch-size",
        3,
        "--quiet",
    )
    refused(cli(*asked), "1 of 4 items failed")
    assert len(logged(place.folder / "out")) == 4
    refused(cli(*asked), "1 of 4 items failed")
    assert len(logged(place.folder / "out")) == 4
    source.write_text(source.read_text() + '{"image": 5}\nno JSON\n{"id": "../a", "image": "p0.png"}\n')
    run = cli(*asked)
    refused(run, "4 of 7 items failed")
    image(24, 24).save(place.folder / "missing.png")
    refused(cli(*asked, "--retry"), "3 of 7 items failed")
    refused(cli(*asked, "--shard", "2/2"), "--shard 2/2 is not allowed")
    refused(cli(*asked, "--column", "image"), "FIELD=COLUMN")
    refused(cli(*asked, "--column", "image=a", "--column", "image=b"), "--column names image twice")
    refused(cli(*asked, "--workers", 2), "--workers and --gpus are for a cluster")
    refused(cli(*asked, "--ray", "local", "--gpus", -1), "--workers 1 --gpus -1 is not allowed")
    refused(cli("batch", "nowhere.jsonl", "--out", "b"), "manifest nowhere.jsonl cannot be read")
    folder = place.folder / "pictures"
    folder.mkdir()
    image(24, 24).save(folder / "a b.png")
    run = cli(
        "batch", folder, "--instruction", "make it blue", "--steps", 1, "--out", "two", "-b", place.backbone
    )
    assert (run.status, run.err) == (0, "")
    assert run.out == f"{Path('two/recipes.parquet')} (1 pictures)\n"
    recipe = provenance.read_recipe(place.folder / "two" / "a-b.png")
    assert (recipe["instruction"], recipe["steps"]) == ("make it blue", 1)
    assert EditRequest(image=None, instruction="a").seed == recipe["seed"]
    (folder / "m.csv").write_text("image,instruction\na b.png,make it blue\n,make it red\n")
    run = cli("batch", folder / "m.csv", "--steps", 1, "--out", "three", "-b", place.backbone)
    assert run.status == 0
    assert "note: 1 items have no image and are drawn from their words; the first: 000001" in run.err
