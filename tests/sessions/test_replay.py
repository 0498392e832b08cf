"""Pictures made again from their own recipes: identical, close or why not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import editkit
from editkit import EditkitError
from editkit.backbone import Backbone
from editkit.imaging import images
from editkit.inference import provenance
from tests.command_line import Cli, copied, one_sentence
from tests.pictures import image
from tests.sessions.edits import rewritten, written

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def half(path: Path, size: tuple[int, int] = (48, 40)) -> Path:
    mask = Image.new("L", size)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    mask.save(path)
    return path


ASKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "all of it": {
        "seed": 5,
        "guidance": 2.5,
        "size": (64, 48),
        "negative": "a star",
        "preserve": True,
        "align": True,
    },
    "search": {"search": {"seeds": 3, "mode": "restart"}},
    "search that goes on": {"search": {"seeds": 3, "preview_steps": 1}},
}


@pytest.mark.parametrize("case", ASKED)
def test_an_edit_is_made_again(case: str, editor: editkit.Editor, source: Path, tmp_path: Path) -> None:
    """From nothing but the file: the recipe knows where its source is, and which backbone."""
    output = written(editor, source, tmp_path / "out.png", **ASKED[case])
    found = editkit.replay(output)
    assert found.same
    assert found.image.size == (48, 40)
    if "search" in ASKED[case]:  # previews run in batches, which round otherwise
        assert found.greatest <= 2
    else:
        assert (found.verdict, found.greatest, found.mean, found.reasons) == ("identical", 0, 0, ())
        assert found.summary_line() == "identical"


def test_masks_and_references_are_found(editor: editkit.Editor, source: Path, tmp_path: Path) -> None:
    image(32, 32, 4).save(tmp_path / "reference.png")
    asked = {"mask": half(tmp_path / "mask.png"), "references": [tmp_path / "reference.png"]}
    output = written(editor, source, tmp_path / "out.png", **asked)
    assert editkit.replay(output, editor=editor).verdict == "identical"
    # Beside the picture, wherever both went.
    shutil.copytree(tmp_path, tmp_path / "moved")
    for name in ("mask.png", "reference.png", "source.png"):
        (tmp_path / name).unlink()
    assert editkit.replay(tmp_path / "moved" / "out.png", editor=editor).verdict == "identical"
    given = {
        "image": tmp_path / "moved" / "source.png",
        "mask": Image.open(tmp_path / "moved" / "mask.png"),
        "references": [tmp_path / "moved" / "reference.png"],
    }
    assert editkit.replay(output, editor=editor, **given).verdict == "identical"
    for left_out in given:
        with pytest.raises(EditkitError, match="cannot be found") as refusal:
            editkit.replay(
                output, editor=editor, **{**given, left_out: () if left_out == "references" else None}
            )
        one_sentence(str(refusal.value))


def test_a_generated_picture_is_made_again(editor: editkit.Editor, tmp_path: Path) -> None:
    output = written(editor, None, tmp_path / "out.png", size=(64, 64), seed=3)
    assert editkit.replay(output, editor=editor).verdict == "identical"
    with pytest.raises(EditkitError, match="leave --image out"):
        editkit.replay(output, editor=editor, image=image(64, 64))


@pytest.mark.parametrize("method", editkit.methods(), ids=lambda method: method.name)
def test_every_method_with_its_tasks_options_and_adapter(method: Any, tmp_path: Path, tiny: Backbone) -> None:
    """With the embedded weights, whose adapters are used by default."""
    image(128, 128).save(tmp_path / "source.png")
    asked: dict[str, Any] = {"mask": half(tmp_path / "mask.png", (128, 128))}
    if method.tasks:
        asked["task"] = method.tasks[0].name
    result = editkit.Editor(tiny).edit(
        tmp_path / "source.png", "make the background blue", method.name, steps=2, **asked
    )
    images.save(result.image, tmp_path / "out.png", result.recipe)
    found = editkit.replay(tmp_path / "out.png")
    assert (found.verdict, found.recipe["weights"]) == ("identical", result.recipe["weights"])
    bare = editkit.Editor(tiny, {method.name: {"adapter": None}} if method.adapter else None)
    other = editkit.replay(tmp_path / "out.png", editor=bare)
    if method.adapter:
        assert other.verdict != "identical"
        assert any("adapter" in reason for reason in other.reasons)


def test_a_session_is_made_again(editor: editkit.Editor, tmp_path: Path) -> None:
    session = editor.session(image(48, 40))
    session.edit("make it blue", steps=1)
    session.edit("add a star", steps=1, mask=half(tmp_path / "mask.png"))
    session.anchor()
    saved = session.save(tmp_path / "saved")
    (tmp_path / "mask.png").unlink()
    for number in (1, 2):
        assert editkit.replay(saved / f"turn-{number:03}.png", editor=editor).verdict == "identical"
    for name in ("turn-003.png", "strip.png"):
        with pytest.raises(EditkitError, match="not one of an edit"):
            editkit.replay(saved / name, editor=editor)


def test_other_weights_are_told(
    random_pipeline: Path, editor: editkit.Editor, source: Path, tmp_path: Path
) -> None:
    output = written(editor, source, tmp_path / "out.png")
    folder = copied(random_pipeline, tmp_path / "other")
    tensors = load_file(folder / WEIGHTS)
    tensors["proj_out.bias"] += 0.5
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    found = editkit.replay(rewritten(output, backbone=str(folder)))
    assert (found.verdict, found.same) == ("different", False)
    assert found.greatest > 16
    (reason,) = found.reasons
    assert reason.startswith("other weights of transformer (")
    assert "vae" not in found.summary_line()


def test_close_and_other_versions(editor: editkit.Editor, source: Path, tmp_path: Path) -> None:
    output = written(editor, source, tmp_path / "out.png")
    told = provenance.read_recipe(output)
    with Image.open(output) as file:
        levels = np.array(file)
    levels[3, 4] ^= 1
    images.save(Image.fromarray(levels), output, told | {"versions": told["versions"] | {"torch": "1.0"}})
    found = editkit.replay(output, editor=editor)
    assert (found.verdict, found.greatest, found.same) == ("close", 1, True)
    assert found.mean == pytest.approx(3 / (48 * 40 * 4))
    assert found.reasons == (f"other versions of torch (1.0 then, {told['versions']['torch']} now)",)
    levels[5:20] = 0
    images.save(Image.fromarray(levels), output, told)
    found = editkit.replay(output, editor=editor)
    assert found.verdict == "different"
    assert "the recipes do not differ" in found.summary_line()


def test_loading_options_are_part_of_the_recipe(random_pipeline: Path, source: Path, tmp_path: Path) -> None:
    chosen = {"attention": "native", "cache": {"type": "FirstBlockCacheConfig", "threshold": 1e6}}
    cached = editkit.load(str(random_pipeline), "cpu", **chosen)
    output = written(cached, source, tmp_path / "out.png")
    assert provenance.read_recipe(output)["loading"] == chosen
    assert editkit.replay(output).verdict == "identical"


def test_replay_command(cli: Cli, editor: editkit.Editor, source: Path, tmp_path: Path) -> None:
    output = written(editor, source, tmp_path / "out.png")
    run = cli("replay", output)
    assert (run.status, run.out, run.err) == (0, f"{output}: identical\n", "")
    source.rename(tmp_path / "elsewhere.png")
    run = cli("replay", output, "--image", tmp_path / "elsewhere.png", "-o", tmp_path / "again.png", "--json")
    assert (run.status, run.err) == (0, "")
    assert json.loads(run.out) == {"verdict": "identical", "greatest": 0, "mean": 0, "reasons": []}
    assert editkit.replay(tmp_path / "again.png", image=tmp_path / "elsewhere.png").verdict == "identical"
    rewritten(output, seed=8)
    run = cli("replay", output, "--image", tmp_path / "elsewhere.png")
    assert (run.status, run.err) == (1, "")
    assert "different: at most" in run.out
