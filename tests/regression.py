"""Proof that a refactoring changes nothing: all that can be seen from outside, in a file to compare with.

    python tests/regression.py write before.json                            # on the tree as it was
    python tests/regression.py compare before.json [--only help edit ...]   # on the tree as it is

`compare` prints what differs and exits with 1 then. It uses `import editkit`, the command line and the YAML
of training runs, so that modules may move. Cases, and where that YAML is, are in regression.yaml. Write and
compare on one machine: hashes are of exact floats.
"""

import argparse
import hashlib
import io
import json
import os
import re
import runpy
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # this tree, whichever one is installed
import editkit

ROOT = Path(__file__).resolve().parent.parent
CASES = yaml.safe_load((ROOT / "tests/regression.yaml").read_text())
Entries = Iterator[tuple[str, Any]]  # names, and values or what makes them
editor = partial(editkit.load, "tiny", device="cpu", dtype="float32")


def drawn(name: str) -> Image.Image:
    """The picture or mask of that name."""
    about = CASES["pictures"][name]
    picture = Image.new(about["mode"], tuple(about["size"]), about["ground"])
    for shape, place, fill in about["shapes"]:
        getattr(ImageDraw.Draw(picture), shape)(place, fill)
    return picture


def files(out: Path) -> None:
    """All pictures as files, and a list of pairs of them for runs that learn from files."""
    for name in CASES["pictures"]:
        drawn(name).save(out / f"{name}.png")
    (out / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CASES["pairs"]))


def request(case: dict[str, Any]) -> editkit.EditRequest:
    """A case with its pictures drawn."""
    given = {key: value for key, value in case.items() if key != "options"}
    given |= {key: drawn(case[key]) for key in ("image", "mask") if case.get(key)}
    given["references"] = [drawn(name) for name in case.get("references", ())]
    return editkit.EditRequest(**{**given, "size": tuple(case["size"]) if "size" in case else None})


def edited(case: dict[str, Any]) -> editkit.EditResult:
    """What a case gives."""
    return editor(options={case["method"]: case.get("options", {})}).edit_many([request(case)])[0]


def digest(image: Image.Image | None) -> Any:
    """Of decoded pixels, their mode and size."""
    return image and hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()


def weights_digest(path: Path) -> str:
    """Of all tensors in a file or in a folder's files, by name and to the bit."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]:
        found.update(file.relative_to(path).as_posix().encode())
        for name, tensor in sorted(load_file(file).items()):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def lasting(value: Any, out: str) -> Any:
    """JSON's types without what is otherwise in another run: times, versions and where files are."""
    if isinstance(value, dict):
        kept = (key for key in value if key != "versions" and not key.startswith("seconds"))
        return {key: lasting(value[key], out) for key in kept}
    if isinstance(value, list | tuple):
        return [lasting(each, out) for each in value]
    if isinstance(value, str) and "  seconds\n" in value:  # a table's last column
        value = re.sub(r" +\d+\.\d{3}$", "", value, flags=re.MULTILINE)
    return value.replace(out, "OUT") if isinstance(value, str) else value


def described(result: editkit.EditResult) -> dict[str, Any]:
    """All of a result but its timings."""
    search = result.search and [result.search.summary(), digest(result.search.contact_sheet())]
    moved = result.alignment and asdict(result.alignment)
    about = {"search": search, "alignment": moved, "recipe": dict(result.recipe), "notes": result.notes}
    return about | {"error": result.error, "pixels": digest(result.image), "change": digest(result.change)}


def output_of(*arguments: object) -> str:
    """What `python -m editkit` prints for arguments, in this process; an error where it refuses."""
    out, err, argv, shown = io.StringIO(), io.StringIO(), sys.argv, warnings.showwarning
    sys.argv = ["editkit", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            runpy.run_module("editkit", run_name="__main__", alter_sys=True)
    except SystemExit as stopped:
        if stopped.code:
            raise RuntimeError(err.getvalue().strip()) from stopped
    finally:
        sys.argv, warnings.showwarning = argv, shown
    return out.getvalue()


def helps(_: Path, *path: str) -> Entries:
    """The help of a command and of all below it; on top, what the lists say too."""
    text = output_of(*path, "--help")
    yield " ".join((*path, "--help")), text
    for command in re.findall(r"^  ([a-z-]+)", text.partition("Commands:\n")[2], re.MULTILINE):
        yield from helps(_, *path, command)
    lists = ["methods", "backbones", *(f"methods {each.name}" for each in editkit.methods())]
    yield from ((line, output_of(*line.split())) for line in lists if not path)


def edits(_: Path) -> Entries:
    """Edits one by one, and several in batches, of which the last is refused."""
    for name, case in CASES["edits"].items():
        yield name, lambda case=case: described(edited(case))
    batch = [request(CASES["edits"][name]) for name in CASES["batch"]]
    batch.append(editkit.EditRequest(image=drawn("circle"), instruction="", method="none"))
    for number, result in enumerate(editor().edit_many(batch, batch_size=4)):
        yield f"batch {number}", described(result)


def sessions(out: Path) -> Entries:
    """Turns with undo, redo and branches, saved and gone on with; files by the command line, replayed."""
    asked: dict[str, Any] = {"steps": 3, "seed": 1}
    session = editor().session(drawn("scene"), out / "session")
    session.edit("make the orange square green", **asked)
    session.edit("remove the red circle", "icedit", preserve=True, **asked)
    session.undo(), session.redo(), session.undo()
    session.edit("make the circle yellow", "aceplus", mask=drawn("mask"), **asked)
    yield "drift", [(turn.number, session.drift()) for turn in map(session.branch, (0, 2, 1, 3))]
    session.anchor()
    again = editkit.load_session(session.save(out / "saved"), editor())
    again.edit("make the background white", **asked)
    for where, each in (("made", session), ("loaded", again)):
        for turn in each.turns:
            about = [turn.parent, turn.instruction, turn.method, dict(turn.recipe)]
            yield f"{where} turn {turn.number}", [digest(turn.image), digest(turn.change), *about]
        yield f"{where} in the end", [digest(each.strip()), each.current.number, each.drift()]
    files(out)
    for number, arguments in enumerate(CASES["files"]):
        path, given = out / f"{number}.png", [each.format(out=out) for each in arguments]
        output_of(*given, "-o", path, *CASES["exact"])
        with Image.open(path) as image:
            yield f"file {number}", [digest(image.copy()), json.loads(image.info["editkit"])]
        yield f"replay {number}", output_of("replay", path)


def config(name: str) -> Path:
    """A training run's YAML, wherever it is now."""
    for path in map(ROOT.joinpath, CASES["configs"][name]):
        if path.is_file():
            return path
    raise RuntimeError(f"there is no config {name}; add its path to regression.yaml")


def trained(name: str, out: Path) -> dict[str, Any]:
    """Losses and other figures of a short run, and the weights that it exports."""
    torch.manual_seed(0)
    said, output = yaml.safe_load(config(name).read_text()), out / name
    changes = [*CASES["short"], *CASES["stand_ins"].get(name, ())]
    changes += [change for key, change in CASES["where_set"].items() if key in said]
    changes += ["cache={out}/cache"] if said["recipe"] != "judge" else []
    output_of("train", config(name), f"fit.output={output}", *(each.format(out=out) for each in changes))
    lines = [line for path in sorted(output.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return {"losses": list(map(json.loads, lines)), "weights": weights_digest(output / "export")}


def training(out: Path) -> Entries:
    """Every config that the embedded backbone can carry out, and commands on what came of them."""
    files(out)
    for name in CASES["configs"]:
        yield name, partial(trained, name, out)
    for arguments in CASES["commands"]:
        given = [each.format(out=out, config=config("lora")) for each in arguments]
        yield " ".join(arguments), partial(output_of, *given)
    for path in sorted(out.rglob("report.json")):
        yield path.relative_to(out).as_posix(), json.loads(path.read_text())
    for path in sorted(out.glob("*.safetensors")):
        yield path.name, weights_digest(path)


GROUPS: dict[str, Any] = {"help": helps, "edit": edits, "session": sessions, "train": training}


def entries(groups: list[str]) -> dict[str, Any]:
    """All that groups yield, by the names of group and entry; one that fails does not hide those after it."""
    found: dict[str, Any] = {}
    for group in groups:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            for name, value in GROUPS[group](Path(folder)):
                try:
                    made = lasting(value() if callable(value) else value, folder)
                except Exception as error:
                    made = f"failed: {error!r}"
                parts = made if isinstance(made, dict) else {"": made}
                found |= {f"{group}: {name} {part}".strip(): each for part, each in parts.items()}
        print(f"{group}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return dict(json.loads(json.dumps(found)))


def main() -> None:
    """Write a file, or compare with one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("file", type=lambda name: Path(name).absolute())
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    given = parser.parse_args()
    os.chdir(ROOT)  # configs name files from here
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    torch.set_num_threads(1)
    now = entries(given.only)
    problems = [f"{name} {value}" for name, value in now.items() if str(value).startswith("failed: ")]
    if given.action == "write":
        given.file.write_text(json.dumps(now, indent=1) + "\n")
    else:
        before = json.loads(given.file.read_text())
        before = {name: value for name, value in before.items() if name.partition(":")[0] in given.only}
        both = ((name, before.get(name), now.get(name)) for name in {**before, **now})
        problems += [
            f"{name}\n  was {was!r:.300}\n  is  {new!r:.300}" for name, was, new in both if was != new
        ]
    about = f"{len(now)} entries of {editkit.__file__}, {len(problems)} problems"
    print(*problems, *CASES["skipped"], about, sep="\n")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
