"""Options before a command, environment variables, the file of defaults, dotted keys."""

from __future__ import annotations

from pathlib import Path

import pytest

import editkit
from editkit.cli import defaults, options
from editkit.errors import EditkitError
from tests.cases import Place
from tests.command_line import Cli, picture, refused


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's file of defaults would be."""
    monkeypatch.setattr(defaults, "user_config_path", lambda name: tmp_path / "settings" / name)
    path = tmp_path / "settings" / "editkit" / defaults.FILE
    path.parent.mkdir(parents=True)
    return path


def test_version(cli: Cli) -> None:
    run = cli("--version")
    assert (run.status, run.out, run.err) == (0, f"editkit {editkit.__version__}\n", "")


def test_help_names_variables_and_the_file(cli: Cli) -> None:
    told = cli("--help").out
    for name in ("EDITKIT_BACKBONE", "EDITKIT_DEVICE", "EDITKIT_DTYPE", defaults.FILE, "--show-completion"):
        assert name in told
    told = cli("edit", "--help").out
    assert "EDITKIT_BACKBONE" in told
    assert "EDITKIT_DEVICE" in told


def test_the_command_line_stands_over_variables_and_they_over_the_file(
    cli: Cli, place: Place, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture(place.folder / "image.png")
    file.write_text("backbone: from-the-file\n")
    refused(cli("edit", image, "x"), "from-the-file")
    refused(cli("eval", "shapesworld"), "from-the-file")
    monkeypatch.setenv("EDITKIT_BACKBONE", "from-the-variable")
    refused(cli("edit", image, "x"), "from-the-variable")
    assert cli("edit", image, "x", "-b", place.backbone, "--steps", 1).status == 0
    monkeypatch.setenv("EDITKIT_DEVICE", "toaster")
    refused(cli("edit", image, "x", "-b", place.backbone), "device 'toaster' is not here")


def test_the_yaml_of_a_run_stands_over_defaults(
    cli: Cli, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another person's defaults do not change whose table a published YAML gives."""
    written = tmp_path / "run.yaml"
    written.write_text("benchmark: shapesworld\nmethods: [kontext]\nlimit: 1\nmetrics: [pixels]\n")
    run = ("eval", "run", written, "--dry-run")
    file.write_text("backbone: from-the-file\n")
    refused(cli(*run), "from-the-file")
    monkeypatch.setenv("EDITKIT_BACKBONE", "from-the-variable")
    refused(cli(*run), "from-the-variable")
    written.write_text(written.read_text() + "backbone: tiny\n")
    assert cli(*run).status == 0
    refused(cli(*run, "-b", "from-the-line"), "from-the-line")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bakbone: tiny\n", r"Unknown key 'bakbone'.*did you mean 'backbone'"),
        ("backbone: [a, b]\n", "does not fit at backbone"),
        ("backbone: : :\n", "is not YAML"),
        ("- backbone\n", "must be a mapping"),
    ],
)
def test_a_wrong_file_is_named(text: str, words: str, cli: Cli, file: Path) -> None:
    file.write_text(text)
    run = cli("backbones")
    refused(run, words)
    assert run.err.count(str(file)) == 1
    assert cli("--help").status == 0


def test_a_file_that_cannot_be_read(cli: Cli, file: Path) -> None:
    file.mkdir()
    refused(cli("backbones"), r"config\.yaml cannot be read")


@pytest.mark.parametrize("name", ["loop", "n" * 300])
def test_a_folder_that_cannot_be_looked_into(
    name: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to itself, and a name that is too long."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setattr(defaults, "user_config_path", lambda _: tmp_path / name)
    refused(cli("backbones"), r"config\.yaml cannot be read")


@pytest.mark.parametrize("text", ["", "device: null\n"])
def test_a_file_that_sets_nothing(text: str, cli: Cli, file: Path) -> None:
    file.write_text(text)
    assert defaults.kept() == {}
    assert cli("backbones").status == 0


def test_no_file_and_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(defaults, "user_config_path", lambda name: tmp_path / "file" / name)
    assert defaults.kept() == {}


def test_dotted_keys_are_nested() -> None:
    given = ["quantization.load_in_4bit=true", "quantization.kind=nf4", "moe.rank=8", "plain=[1, 2]"]
    assert options.pairs(given) == {
        "quantization": {"load_in_4bit": True, "kind": "nf4"},
        "moe": {"rank": 8},
        "plain": [1, 2],
    }


@pytest.mark.parametrize("given", [["a=1", "a.b=2"], ["a.b=2", "a=1"]])
def test_a_key_and_what_is_nested_in_it_are_refused(given: list[str]) -> None:
    with pytest.raises(EditkitError, match="give one"):
        options.pairs(given)


def test_verbose_tells_seconds_by_stage_and_quiet_no_notes(cli: Cli, place: Place) -> None:
    arguments = ["edit", picture(place.folder / "i.png"), "x", "-b", place.backbone, "--steps", 1]
    run = cli("--verbose", *arguments)
    assert run.status == 0
    assert "plan " in run.err
    assert "decode " in run.err
    plain, quiet = cli(*arguments), cli(*arguments, "--quiet")
    assert (plain.err.count("note: "), quiet.err, quiet.status) == (1, "", 0)  # the note is of the word x
    assert "decode " not in plain.err
