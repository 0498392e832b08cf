"""Odd but good input is converted, and outputs are written whole."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editkit.inference import provenance
from tests.cases import Arguments, Place, edit, instructed, output
from tests.command_line import Cli, picture, refused
from tests.pictures import image as colourful


def mask(place: Place) -> Path:
    """White on the left."""
    path = place.folder / "mask.png"
    halves = Image.new("1", (40, 24))
    halves.paste(1, (0, 0, 20, 24))
    halves.save(path)
    return path


def with_mode(mode: str) -> Callable[[Place], Path]:
    def make(place: Place) -> Path:
        path = place.folder / ("odd.jpg" if mode == "CMYK" else "odd.png")
        colourful(40, 24).convert(mode).save(path)
        return path

    return make


def sixteen_bit(place: Place) -> Path:
    path = place.folder / "odd.png"
    Image.fromarray(np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)).save(path)
    return path


def animated(place: Place) -> Path:
    path = place.folder / "odd.gif"
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "green", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def turned(place: Place) -> Path:
    path, exif = place.folder / "odd.jpg", Image.Exif()
    exif[0x0112] = 6
    colourful(24, 40).save(path, exif=exif)
    return path


def sized(width: int, height: int) -> Callable[[Place], Path]:
    return lambda place: picture(place.folder / "odd.png", (width, height))


ODD_PICTURES: dict[str, tuple[Callable[[Place], Path], tuple[int, int], str]] = {
    "1x1": (sized(1, 1), (1, 1), ""),
    "1x4000": (sized(1, 4000), (1, 4000), ""),
    "4000x1": (sized(4000, 1), (4000, 1), ""),
    "16-bit": (sixteen_bit, (40, 24), ""),
    "gray": (with_mode("L"), (40, 24), ""),
    "one bit": (with_mode("1"), (40, 24), ""),
    "cmyk": (with_mode("CMYK"), (40, 24), ""),
    "palette": (with_mode("P"), (40, 24), ""),
    "animated": (animated, (40, 24), "note: only the first of 3 frames is used\n"),
    "turned by exif": (turned, (40, 24), ""),
}


@pytest.mark.parametrize("case", ODD_PICTURES)
def test_odd_pictures_are_edited(case: str, cli: Cli, place: Place) -> None:
    make, size, notes = ODD_PICTURES[case]
    run = cli(*edit(place, image=make(place)))
    assert (run.status, run.err) == (0, notes)
    assert run.out.startswith(f"{place.output} ({size[0]}x{size[1]}, ")
    with Image.open(place.output) as result:
        assert (result.size, result.mode) == (size, "RGB")
        result.load()


def test_alpha_is_kept(cli: Cli, place: Place) -> None:
    alpha = Image.linear_gradient("L").resize((40, 24))
    source = colourful(40, 24)
    source.putalpha(alpha)
    source.save(place.folder / "odd.png")
    assert cli(*edit(place, image=place.folder / "odd.png")).status == 0
    with Image.open(place.output) as result:
        assert result.mode == "RGBA"
        assert result.getchannel("A").tobytes() == alpha.tobytes()


ODD_REQUESTS: dict[str, tuple[Callable[[Place], Arguments], str]] = {
    "ten thousand words": (
        lambda p: instructed(p, "circle " * 10_000),
        r"note: The instruction is longer than 48 tokens; its end is not read\.\n",
    ),
    "non-latin instruction": (
        lambda p: instructed(p, "把圆变成蓝色 синий"),
        r"note: The backbone .* does not know the words 把圆变成蓝色, синий; .*'flux1-dev'\.\n",
    ),
    "emoji as instruction": (lambda p: instructed(p, "🙂"), ""),
    "punctuation as instruction": (lambda p: instructed(p, "?!"), ""),
    "lines in an instruction": (lambda p: instructed(p, "make it blue\nand green\t"), ""),
    "guidance 0": (lambda p: edit(p, "--guidance", 0), "note: .* was trained without guidance, .*\n"),
    "largest seed": (lambda p: edit(p, "--seed", 2**63 - 1), ""),
    "size 1x1": (lambda p: edit(p, "--size", "1x1"), ""),
    "size off the grid": (lambda p: edit(p, "--size", "33X17"), ""),
    "bfloat16": (lambda p: edit(p, "--dtype", "bfloat16"), ""),
    "empty negative prompt": (lambda p: edit(p, "--negative", ""), ""),
    "references of other sizes": (
        lambda p: edit(p, "--ref", picture(p.folder / "r.png", (3, 90)), "--ref", p.image),
        "",
    ),
    "preserve without mask": (lambda p: edit(p, "--preserve"), ""),
    "mask of one bit": (lambda p: edit(p, "--mask", mask(p)), ""),
    "option": (lambda p: edit(p, "--option", "layout=stitch", "--option", "sizes=exact"), ""),
    "option of the backbone": (lambda p: edit(p, "--load", "attention=native"), ""),
    "known device": (lambda p: edit(p, "--device", "cpu"), ""),
}


@pytest.mark.parametrize("case", ODD_REQUESTS)
def test_odd_requests_are_carried_out(case: str, cli: Cli, place: Place) -> None:
    make, notes = ODD_REQUESTS[case]
    run = cli(*make(place))
    assert run.status == 0, run
    assert re.fullmatch(notes, run.err), run.err
    with Image.open(place.output) as result:
        assert result.size == (40, 24)
        result.load()


@pytest.mark.parametrize("name", ["o.jpg", "o.JPEG", "o.webp", "new/folder/o.png", "ö 🙂.png"])
def test_outputs_are_written_whole(name: str, cli: Cli, place: Place) -> None:
    path = place.folder / name
    run = cli(*output(place, path))
    assert (run.status, run.err) == (0, "")
    with Image.open(path) as result:
        assert result.size == (40, 24)
        result.load()
    assert not list(path.parent.glob("*.part"))


def test_output_over_the_input(cli: Cli, place: Place) -> None:
    """Replaced whole on success, and as it was where the edit fails."""
    path = place.image
    old = path.read_bytes()
    refused(cli(*edit(place, "--guidance", "nan", "-o", path)), "guidance")
    assert path.read_bytes() == old
    assert cli(*edit(place, "-o", path)).status == 0
    assert provenance.read_recipe(path)["instruction"] == "make it blue"


def test_generate_needs_no_picture(cli: Cli, place: Place) -> None:
    arguments = ["-b", place.backbone, "-o", place.output, "--steps", 1, "--size", "48x32"]
    run = cli("generate", "a red circle", *arguments)
    assert run.status == 0, run
    with Image.open(place.output) as result:
        assert result.size == (48, 32)


def test_generate_searches(cli: Cli, place: Place) -> None:
    sheet = place.folder / "sheet.png"
    arguments = ["-b", place.backbone, "-o", place.output, "--steps", 2, "--size", "48x32", "--json"]
    search = ["--search", 2, "--judge", "tiny", "--judge-option", "device=cpu", "--contact-sheet", sheet]
    run = cli("generate", "a red circle", *arguments, *search, "--seed", 3)
    assert run.status == 0, run
    searched = json.loads(run.out)["search"]
    assert searched["seeds"] == [3, 4]
    assert sorted(searched["steps_by_seed"].values()) == [1, 2]
    with Image.open(sheet) as previews:
        assert previews.width > 2 * 48
    once = cli("generate", "a red circle", *arguments, *search, "--seed", 3, "--one-order")
    asked = [json.loads(each.out)["search"]["comparisons"][0]["replies"] for each in (run, once)]
    assert [len(replies) for replies in asked] == [2, 1]
    refused(cli("generate", "a red circle", *arguments, "--search", 2), "needs a source picture")
    twice = ["--search", 2, "--judge", "tiny", "--contact-sheet", place.output]
    refused(cli("generate", "a red circle", *arguments, *twice), "give two files")


@pytest.mark.parametrize("arguments", [[], ["eval"], ["weights"]], ids=str)
def test_a_bare_command_shows_its_help(arguments: list[str], cli: Cli) -> None:
    run = cli(*arguments)
    assert (run.status, run.err) == (0, "")
    assert "Usage:" in run.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["edit", "a.png"], "Missing argument 'PICTURE', as in `editkit edit PICTURE… INSTRUCTION`; run "),
        (
            ["eval", "compare", "a"],
            "Missing argument 'RUN_B', as in `editkit eval compare RUN_A RUN_B`; run ",
        ),
        (["arena"], "Missing argument 'RUN', as in `editkit arena RUN…`; run "),
        (["eval", "run", "--stpes", "3"], "No such option: --stpes .*; run `editkit eval run --help` to see"),
        (["nonsense"], "No such command 'nonsense'; run `editkit --help` to see"),
    ],
)
def test_a_wrong_command_is_told_its_own_help(arguments: list[str], words: str, cli: Cli) -> None:
    """The last argument takes what is given alone, so that the whole line is shown where one is missing."""
    refused(cli(*arguments), words)
