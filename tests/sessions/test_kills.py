"""Sessions that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import editkit
from editkit.imaging import images
from editkit.inference import provenance
from tests import ROOT
from tests.pictures import image

SIZE = (64, 48)

KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from PIL import Image
import editkit

editor, folder = editkit.Editor(None), Path(sys.argv[1])  # nothing is edited
TOUCHING = ("open", "os.rename", "os.remove", "os.mkdir", "shutil.copyfile", "shutil.rmtree")

def picture(number):
    return Image.fromarray(np.full((24, 24, 3), 20 * number, dtype=np.uint8))

def work(kept, report):
    session = editor.session(picture(0), kept)
    os.write(report, b"0")
    for number in range(1, 3):
        session.adopt(editkit.EditResult(image=picture(number), method="kontext", seed=0))
        os.write(report, str(number).encode())
    session.undo()
    session.save(folder / "saved")

def attempt(last):
    kept = folder / f"kept-{last}"
    inlet, report = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0
        def hook(event, arguments):
            nonlocal count
            if event in TOUCHING and str(folder) in str(arguments[0]):
                count += 1
                if count == last:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        work(kept, report)
        os._exit(0)
    os.close(report)
    _, status = os.waitpid(child, 0)
    returned = os.read(inlet, 100).decode()
    os.close(inlet)
    return status, kept, returned

work(folder / "warm", os.open(os.devnull, os.O_WRONLY))
kills, last, stride = 0, 1, int(sys.argv[2])
while True:
    status, kept, returned = attempt(last)
    if returned:
        session = editkit.load_session(kept, editor)
        assert len(session.turns) >= len(returned), (kills, returned)
        for number, turn in enumerate(session.turns):
            assert turn.image.getpixel((3, 3)) == (20 * number,) * 3
        session.adopt(editkit.EditResult(image=picture(9), method="kontext", seed=0))
        assert editkit.load_session(kept, editor).current.number == len(session.turns) - 1
    saved = folder / "saved"
    if saved.exists():
        assert len(editkit.load_session(saved, editor).turns) == 3
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    kills += 1
    last += stride
print(kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_touch_of_a_file(stride: int, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, tmp_path, str(stride)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 30 / stride


EDITING = """
import sys
import editkit
session = editkit.load(sys.argv[2], "cpu").session(sys.argv[3], sys.argv[1])
while True:
    session.edit("make it blue", steps=1)
    print(session.current.number, flush=True)
"""


@pytest.mark.slow
def test_killed_from_outside_while_editing(random_pipeline: Path, tmp_path: Path) -> None:
    image(*SIZE).save(tmp_path / "image.png")
    child = subprocess.Popen(
        [sys.executable, "-c", EDITING, tmp_path / "kept", random_pipeline, tmp_path / "image.png"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) == 2:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    loaded = editkit.load_session(tmp_path / "kept")
    assert len(loaded.turns) >= 3
    for turn in loaded.turns[1:]:
        assert provenance.read_recipe(turn.path)["source_sha256"] == provenance.pixels_sha256(
            images.load_image(loaded.turns[turn.number - 1].image)
        )
