"""Jobs that are killed and started again give what uninterrupted ones give, and make nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import editkit
from backbones.flux import Flux
from editkit import EditkitError, EditRequest
from editkit.inference import provenance
from editkit.serving.jobs import job, manifest, plan
from editkit.serving.jobs.job import Share
from editkit.serving.jobs.store import Made, Store
from tests import ROOT
from tests.cases import Place
from tests.command_line import Cli, one_sentence, refused
from tests.pictures import difference, image

SIZES = ((24, 24), (40, 30), (33, 50))


@pytest.fixture(scope="module")
def editor(random_flux: Flux) -> editkit.Editor:
    return editkit.Editor(random_flux)


def rows(folder: Path, count: int) -> Path:
    """A manifest of several sizes and repeated words, with an item that fails in it."""
    for place, size in enumerate(SIZES):
        image(*size, place).save(folder / f"p{place}.png")
    made: list[dict[str, Any]] = [
        {"image": f"p{place % 3}.png", "instruction": f"make it {place % 4}", "seed": place, "steps": 1}
        for place in range(count)
    ]
    made[count // 2]["image"] = "missing.png"
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder / "m.jsonl"


def items(source: Path) -> list[manifest.Item]:
    return manifest.read(source, {}, {}, None)


def content(folder: Path) -> dict[str, bytes]:
    """Pictures and table, but not what tells when they were made."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*.p*"))}


def logged(folder: Path) -> list[str]:
    """Names of the items in all logs, as often as they are there."""
    lines = [line for log in (folder / "log").glob("*") for line in log.read_text().splitlines()]
    return sorted(json.loads(line)["name"] for line in lines)


ALL = Share()


def whole(editor: editkit.Editor, found: list[manifest.Item], folder: Path, share: Share = ALL) -> list[Made]:
    """A job, or a share of it, in this process."""
    store, told = Store(folder, {"batch_size": 3}), []
    job.run(lambda: editor, plan.batches(found, 3), store, share, tell=told.append)
    job.finish(found, store)
    return told


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
        assert provenance.read(picture)["seed"] == request.seed


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
        "import sys; from pathlib import Path; from editkit.errors import EditkitError\n"
        "from editkit.serving.jobs.store import Store\n"
        "try:\n"
        "    with Store(Path(sys.argv[1]), {}).locked(int(sys.argv[2]), int(sys.argv[3])): print('free')\n"
        "except EditkitError as error: print(error)\n"
    )

    def asked(first: int, last: int) -> str:
        run = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "out", str(first), str(last)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        return run.stdout.strip()

    with store.locked(2, 5):
        assert asked(5, 9) == "free"
        assert "Another run" in asked(4, 9)
        one_sentence(asked(0, 3))
    assert asked(0, 9) == "free"


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
    with pytest.raises(EditkitError, match="gone from the manifest"):
        job.check(items(tmp_path / "m.jsonl")[:2], Store(tmp_path / "out", {"batch_size": 3}).done())


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


@pytest.mark.parametrize("touches", [3, 7])
def test_a_torn_line_and_a_picture_without_a_line(
    editor: editkit.Editor, tmp_path: Path, touches: int
) -> None:
    """As a kill leaves them: the line is cut off behind the last picture."""
    found = items(rows(tmp_path, 8))
    whole(editor, found, tmp_path / "whole")
    whole(editor, found, tmp_path / "torn")
    (log,) = (tmp_path / "torn" / "log").glob("*")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:touches]) + lines[touches][:20])
    for line in lines[touches + 1 :]:
        (tmp_path / "torn" / f"{json.loads(line)['name']}.png").unlink(missing_ok=True)
    (tmp_path / "torn" / "recipes.parquet").unlink()
    whole(editor, found, tmp_path / "torn")
    assert content(tmp_path / "torn") == content(tmp_path / "whole")


KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
import editkit
from editkit.serving.jobs import job, manifest, plan
from editkit.serving.jobs.job import Share
from editkit.serving.jobs.store import Store

source, folder, kills, backbone = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
items = manifest.read(source, {}, {}, None)
batches = plan.batches(items, 3)
editor = editkit.load(backbone, "cpu")

def work(out):
    store = Store(out, {})
    job.run(lambda: editor, batches, store, Share())
    assert job.finish(items, store) is not None

start = time.monotonic()
work(folder / "whole")
pause = (time.monotonic() - start) / len(items)
chance = random.Random(0)
targets = sorted(chance.sample(range(len(items) // 2), kills))
killed = 0
for target in [*targets, None]:
    child = os.fork()
    if child == 0:
        work(folder / "killed")
        os._exit(0)
    if target is not None:
        while len(list((folder / "killed").glob("*.png"))) < target:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, pause / 2))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if target is not None:
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        killed += 1
assert status == 0
print(killed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("count", "kills"), [(9, 2), pytest.param(300, 10, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_killed_at_random_points(random_pipeline: Path, tmp_path: Path, count: int, kills: int) -> None:
    source = rows(tmp_path, count)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, source, tmp_path, str(kills), random_pipeline],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) == kills
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert logged(tmp_path / "killed") == [f"{place:06d}" for place in range(count)]


def launched(start: tuple[str, ...], source: Path, out: Path, backbone: Path) -> None:
    """Run `editkit batch` in processes of its own; it tells of the item that fails."""
    asked = ("batch", source, "--out", out, "-b", backbone, "--device", "cpu", "--batch-size", 3, "--quiet")
    run = subprocess.run(
        [sys.executable, *start, "-m", "editkit", *map(str, asked)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode != 0
    assert "1 of 20 items failed" in run.stdout + run.stderr


@pytest.mark.slow
def test_accelerate_launch_gives_what_one_process_gives(random_pipeline: Path, tmp_path: Path) -> None:
    """Both write into one folder; the one that ends last writes the table."""
    source = rows(tmp_path, 20)
    config = str(ROOT / "configs" / "accelerate" / "ddp.yaml")
    launch = ("-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", "2")
    launched(launch, source, tmp_path / "two", random_pipeline)
    launched((), source, tmp_path / "one", random_pipeline)
    assert len(list((tmp_path / "two" / "log").glob("*"))) == 2
    assert logged(tmp_path / "two") == [f"{place:06d}" for place in range(20)]
    assert content(tmp_path / "two") == content(tmp_path / "one")


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
    image(24, 24).save(place.folder / "missing.png")
    refused(cli(*asked, "--retry"), "has changed since")
    refused(cli(*asked, "--shard", "2/2"), "--shard 2/2 is not allowed")
    refused(cli(*asked, "--column", "image"), "FIELD=COLUMN")
    refused(cli("batch", "nowhere.jsonl", "--out", "b"), "manifest nowhere.jsonl cannot be read")
    folder = place.folder / "pictures"
    folder.mkdir()
    image(24, 24).save(folder / "a b.png")
    run = cli(
        "batch", folder, "--instruction", "make it blue", "--steps", 1, "--out", "two", "-b", place.backbone
    )
    assert (run.status, run.err) == (0, "")
    assert run.out == f"{Path('two/recipes.parquet')} (1 pictures)\n"
    recipe = provenance.read(place.folder / "two" / "a-b.png")
    assert (recipe["instruction"], recipe["steps"]) == ("make it blue", 1)
    assert EditRequest(image=None, instruction="a").seed == recipe["seed"]
