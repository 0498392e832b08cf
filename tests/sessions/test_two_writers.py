"""Sessions that several processes write at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

BEGIN = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from PIL import Image
import editkit
from editkit import atomic_files
from editkit.sessions import lock

editor, folder = editkit.Editor(None), Path(sys.argv[1])  # nothing is edited

def made(level):
    picture = Image.fromarray(np.full((24, 24, 3), level, dtype=np.uint8))
    return editkit.EditResult(image=picture, method="kontext", seed=0, recipe={"instruction": str(level)})

def child(work):
    inlet, report = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            work(lambda line: os.write(report, f"{line}\\n".encode()))
            status = 0
        finally:
            os._exit(status)
    os.close(report)
    return process, os.fdopen(inlet)

def ended(process):
    assert os.waitpid(process, 0)[1] == 0
"""

MANY = """
TURNS = 15

def write(writer, tell):
    session = editkit.load_session(folder, editor)
    for number in range(TURNS):
        while True:
            try:
                turn = session.adopt(made(100 * writer + number))
                break
            except editkit.EditkitError as error:
                assert "changed elsewhere" in str(error), error
                session = editkit.load_session(folder, editor)
        tell(f"{turn.number} {100 * writer + number}")

editor.session(made(250).image, folder)
children = [child(lambda tell, writer=writer: write(writer, tell)) for writer in range(2)]
told = [line.split() for _, lines in children for line in lines]
for process, _ in children:
    ended(process)
session = editkit.load_session(folder, editor)
assert len(session.turns) == 1 + len(told) == 1 + 2 * TURNS, (len(session.turns), len(told))
for number, level in told:
    turn = session.turns[int(number)]
    assert (turn.instruction, turn.image.getpixel((3, 3))) == (level, (int(level),) * 3)
"""

BEGUN = """
def begin(level, tell):
    try:
        editor.session(made(level).image, folder)
        tell(level)
    except editkit.EditkitError as error:
        assert "holds a session" in str(error) or "is not empty" in str(error), error

children = [child(lambda tell, level=level: begin(level, tell)) for level in range(8)]
told = [int(line) for _, lines in children for line in lines]
for process, _ in children:
    ended(process)
(level,) = told
assert editkit.load_session(folder, editor).current.image.getpixel((3, 3)) == (level,) * 3
"""

HELD = """
session = editor.session(made(250).image, folder)

def hold(tell):
    with lock.alone(folder):
        tell("locked")
        time.sleep(60)

holder, lines = child(hold)
try:
    assert lines.readline() == "locked\\n"
    assert editkit.load_session(folder, editor).current.number == 0  # a reader does not wait
    writer, written = child(lambda tell: tell(editkit.load_session(folder, editor).adopt(made(1)).number))
    time.sleep(0.3)
    assert len(editkit.load_session(folder, editor).turns) == 1
finally:
    os.kill(holder, signal.SIGKILL)
assert written.readline() == "1\\n"
ended(writer)
assert editkit.load_session(folder, editor).current.number == 1
"""

SAVED = """
theirs = editor.session(made(250).image, folder)
mine = editor.session(made(10).image, folder.with_name("mine"))
mine.adopt(made(20))
with lock.alone(folder):
    saver, saved = child(lambda tell: tell(mine.save(folder)))
    time.sleep(0.5)
    assert len(editkit.load_session(folder, editor).turns) == 1  # it waits for the writer
ended(saver)
assert len(editkit.load_session(folder, editor).turns) == 2
for attempt in (lambda: theirs.adopt(made(1)), lambda: theirs.save(folder.with_name("other")),
                lambda: theirs.save(folder)):
    try:
        attempt()
    except editkit.EditkitError as error:
        assert "changed elsewhere" in str(error), error
    else:
        raise AssertionError("it wrote over what was saved there")
assert not folder.with_name("other").exists()

def write(tell):
    with lock.alone(folder):
        tell("locked")
        time.sleep(60)

with lock.alone(folder):
    writer, lines = child(write)
    time.sleep(0.5)
    with atomic_files.whole_folder(folder) as partial:
        (partial / "session.json").write_bytes((folder / "session.json").read_bytes())
assert lines.readline() == "locked\\n"
waiting, waited = child(lambda tell: tell(lock.alone(folder).__enter__()))
time.sleep(0.5)
assert os.waitpid(waiting, os.WNOHANG) == (0, 0)  # the writer that waited has the new folder's lock
os.kill(writer, signal.SIGKILL)
ended(waiting)
"""

SCRIPTS = {"many turns": MANY, "begun at once": BEGUN, "killed holder": HELD, "saved onto it": SAVED}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_each_turn_that_was_returned_is_kept(script: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BEGIN + script, tmp_path / "kept"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
