"""Several pictures, folders and pipes."""

from __future__ import annotations

import io
import sys

import pytest
from PIL import Image

from editkit.cli import main, pictures
from tests.cases import Place
from tests.command_line import Cli, files, picture, refused

BOMB = b"P6 60000 60000 255\n"
"""Header of a picture whose pixels would be 10 GB."""


def test_several_pictures_into_a_folder(cli: Cli, place: Place) -> None:
    (place.folder / "in").mkdir()
    red = picture(place.folder / "in" / "red.jpg")
    blue = picture(place.folder / "in" / "blue.png", (32, 48), (0, 0, 255))
    place.file("in/broken.png", "no picture")
    place.file("in/notes.txt", "no name of a picture")
    rest = ["make it blue", "-b", place.backbone, "--steps", 1]
    run = cli("edit", red, blue, *rest, "-o", "one")
    assert (run.status, run.out.count("\n")) == (0, 2), run
    assert Image.open("one/red.png").size == (40, 24)
    assert Image.open("one/blue.png").size == (32, 48)
    run = cli("edit", "in", *rest, "-o", "two")
    assert run.status == 2
    assert "in/broken.png: The image in/broken.png is in no known picture format" in run.err
    assert "editkit: 1 of 3 pictures failed" in run.err
    assert sorted(path.name for path in (place.folder / "two").iterdir()) == ["blue.png", "red.png"]
    for name in ("red", "blue"):
        first, second = (Image.open(f"{folder}/{name}.png") for folder in ("one", "two"))
        assert first.tobytes() == second.tobytes()


def test_several_pictures_refused(cli: Cli, place: Place) -> None:
    (place.folder / "in").mkdir()
    (place.folder / "empty").mkdir()
    first, second = picture(place.folder / "in" / "a.png"), picture(place.folder / "in" / "a.jpg")
    before = files(place.folder)
    refused(cli("edit", first, second, "x"), "edited.png is one picture; .* need a folder")
    refused(cli("edit", first, second, "x", "-o", "out"), "would both be out/a.png")
    refused(cli("edit", first, place.image, "x", "-o", "in"), "would replace in/a.png")
    refused(cli("edit", first, "gone.png", "x", "-o", "out"), "gone.png cannot be read")
    refused(cli("edit", first, "-", "x", "-o", "out"), "- reads one picture")
    refused(cli("edit", "empty", "x", "-o", "out"), "empty holds no pictures")
    refused(
        cli("edit", first, second, "x", "-o", "o", "--contact-sheet", "s.png"), "--contact-sheet shows one"
    )
    refused(cli("edit", first, "x", "-o", "-", "--json"), "both write to stdout")
    assert {path: data for path, data in files(place.folder).items() if path != place.image} == before


def test_no_output_replaces_a_picture_that_is_read(cli: Cli, place: Place) -> None:
    one, other = place.image, picture(place.folder / "other.png")
    before = files(place.folder)
    for words in (
        ("edit", one, "x", "-o", "new.png", "--search", 2, "--contact-sheet", one),
        ("edit", one, "x", "-o", other, "--ref", other),
        ("edit", one, "x", "-o", other, "--mask", other),
        ("compare", one, "x", "-o", one),
        ("replay", one, "-o", one),
    ):
        refused(cli(*words), "The output would replace .*.png, which is read; give another file")
    assert files(place.folder) == before


def test_compare_reads_stdin(cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(place.image.read_bytes())))
    run = cli("compare", "-", "make it blue", "-m", "kontext", "-b", place.backbone, "--steps", 1)
    assert run.status == 0, run.err
    assert Image.open("sheet.png").width > 2 * 40


@pytest.mark.parametrize("command", [["edit"], ["compare", "-m", "kontext"]])
def test_a_picture_of_too_many_pixels_on_stdin(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BOMB)))
    run = cli(*command, "-", "make it blue", "-b", place.backbone)
    refused(run, "The image on stdin has over 100,000,000 pixels; scale it down first")


def test_a_picture_on_stdin_that_the_output_cannot_hold(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = io.BytesIO()
    Image.new("RGB", (65_501, 1)).save(wide, "PNG")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(wide.getvalue())))
    run = cli("edit", "-", "make it blue", "-b", "nothing of the kind", "-o", "o.jpg")
    refused(run, "o.jpg holds up to 65,500 pixels a side, and the picture has 65501x1; name it .png")


def test_a_sheet_is_scaled_to_what_its_format_holds(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    pictures.write_sheet(Image.new("RGB", (20_000, 40)), place.folder / "sheet.webp", {})
    assert Image.open(place.folder / "sheet.webp").size == (16_383, 33)
    assert "sheet.webp is scaled to 16383x33 pixels" in capsys.readouterr().err
    pictures.write_sheet(Image.new("RGB", (20_000, 40)), place.folder / "sheet.png", {})
    assert Image.open(place.folder / "sheet.png").size == (20_000, 40)


def test_a_picture_does_not_come_from_the_terminal(
    cli: Cli, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    refused(cli("edit", "-", "make it blue", "-b", place.backbone), "stdin, which is the terminal")


def test_from_stdin_to_stdout(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Nothing but the picture is on stdout, and it is the one that a file would hold."""
    arguments = ["edit", "-", "make it blue", "-b", str(place.backbone), "--steps", "1", "-o", "-"]
    monkeypatch.setattr(sys, "argv", ["editkit", *arguments])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(place.image.read_bytes())))
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capfdbinary.readouterr()
    assert (stopped.value.code or 0, err) == (0, b"")
    assert Image.open(io.BytesIO(out)).size == (40, 24)
    assert out.endswith(b"IEND\xaeB`\x82")
