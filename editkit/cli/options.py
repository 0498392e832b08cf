"""Options that commands share, and how they are read."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editkit.cli import completion
from editkit.cli.terminal import verbosity
from editkit.errors import EditkitError

if TYPE_CHECKING:
    from editkit.editor import Editor

Backbone = Annotated[
    str,
    typer.Option(
        "-b",
        "--backbone",
        envvar="EDITKIT_BACKBONE",
        autocompletion=completion.backbones,
        help="Backbone: a name from `editkit backbones`, a folder or a Hub id.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        envvar="EDITKIT_DEVICE",
        help="Device to run on: cpu, cuda or mps. If not given, the best one of this machine.",
    ),
]
Dtype = Annotated[
    str | None, typer.Option(envvar="EDITKIT_DTYPE", help="Precision: float32, bfloat16 or float16.")
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Option of the method, as key=value; may be repeated. Dots for nested keys: moe.rank=8.",
    ),
]
OptionsByMethod = Annotated[
    list[str] | None,
    typer.Option("--option", help="Option of a method, as method.key=value; may be repeated."),
]
Load = Annotated[
    list[str] | None,
    typer.Option(
        "--load",
        help="Loading option of the backbone, as key=value; may be repeated. Dots for nested "
        "keys: quantization.load_in_4bit=true.",
    ),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", help="Adapter to add, as FILE[=SCALE]: a file, a folder or a Hub id; may be repeated."
    ),
]
LowMemory = Annotated[
    str | None,
    typer.Option(metavar="PRESET", help="Preset for devices with little memory: 16g, 24g, 48g or auto."),
]
DeviceAlias = Annotated[str | None, typer.Option("--device", hidden=True)]
"""The former name of --plan-device."""
Json = Annotated[bool, typer.Option("--json", help="Print the recipe as JSON.")]


def planned_device(name: str | None, alias: str | None) -> str | None:
    """Return the GPU to plan for, by either name of the option.

    Raises:
        EditkitError: where both are given.
    """
    if name is not None and alias is not None:
        raise EditkitError("--device is the former name of --plan-device; give one of them.")
    return alias if name is None else name


def whole(text: str) -> int:
    """Read a whole number; typer alone takes 1.0 for one, which an edit's fields refuse."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text} is no whole number") from None


WHOLE_NUMBER_OPTION: Mapping[str, Any] = {"parser": whole, "metavar": "<int>"}
"""Arguments of `typer.Option` for an option that takes a whole number."""


def whole_number(about: str) -> Any:
    """Make an option that takes a whole number, with its help; every `int` of a command needs it."""
    return typer.Option(help=about, **WHOLE_NUMBER_OPTION)


def editor(
    backbone: str,
    device: str | None,
    dtype: str | None,
    options: Mapping[str, Mapping[str, Any]],
    load: list[str] | None = None,
    lora: list[str] | None = None,
    low_memory: str | None = None,
) -> Editor:
    """The editor that a command's options ask for, with options by method name.

    Raises:
        EditkitError: for an unknown name or option.
    """
    check_options(options)
    from editkit import gpus

    gpus.check_runs(device)  # the backbone does, too, but torch is imported before
    from editkit.backbone import provider
    from editkit.editor import Editor
    from editkit.startup import spare_modules

    loaded = pairs(load, "--load")
    if low_memory is not None:
        if "low_memory" in loaded:
            raise EditkitError(
                f"--low-memory {low_memory} and --load low_memory={loaded['low_memory']} choose two presets; "
                "leave one of them out."
            )
        loaded["low_memory"] = low_memory
    found = provider().load(backbone, device, dtype, loaded)
    spare_modules()
    return Editor(found, options, scaled(lora))


def check_options(options: Mapping[str, Mapping[str, Any]]) -> None:
    """Check options by method name without torch, whose import takes long.

    Raises:
        EditkitError: for an unknown method or option, or a wrong value.
    """
    from editkit import config, registry

    for method, chosen in options.items():
        config.build(registry.method_config(method), chosen)


def say(notes: Iterable[str]) -> None:
    """Print notes where they are not in the way of what a command prints."""
    for note in () if verbosity.quiet else notes:
        print(f"note: {note}", file=sys.stderr)


def scaled(sources: Iterable[str] | None) -> dict[str, float]:
    """FILE[=SCALE] options as scales by file, 1 where none is given.

    Raises:
        EditkitError: where a scale is none, or a file is given twice.
    """
    found: dict[str, float] = {}
    for file, scale in map(split_scale, sources or ()):
        if not file:
            raise EditkitError("--lora names no file; give FILE or FILE=SCALE, such as a.safetensors=0.5.")
        if file in found:
            raise EditkitError(f"--lora {file} is given twice; give it once, with one scale.")
        found[file] = scale
    return found


def given(option: Mapping[str, Any], lora: list[str] | None) -> dict[str, Any]:
    """A report's entries on a method's options and adapters; none for what was left out."""
    entries: dict[str, Any] = {"options": dict(option), "lora": scaled(lora)}
    return {name: entry for name, entry in entries.items() if entry}


def split_scale(source: str) -> tuple[str, float]:
    """FILE[=SCALE] as both; a file's name may hold an equals sign.

    Raises:
        EditkitError: where what stands before the scale is nothing, or the scale is not finite.
    """
    path, _, number = source.rpartition("=")
    if Path(source).exists():  # a folder may be called rank=16
        return source, 1.0
    try:
        scale = float(number)
    except ValueError:
        return source, 1.0
    if not path or not math.isfinite(scale):
        raise EditkitError(
            f"{source} names no file with a scale; give FILE=SCALE, such as a.safetensors=0.5."
        )
    return path, scale


def pairs(options: list[str] | None, name: str = "--option") -> dict[str, Any]:
    """key=value options as a dict, nested where a key has dots; values are YAML.

    Raises:
        EditkitError: where one is not of that form, or sets both a key and what is nested in it.
    """
    import yaml

    found: dict[str, Any] = {}
    for option in options or ():
        key, equals, value = option.partition("=")
        if not equals:
            raise EditkitError(f"{name} {option} must have the form key=value.")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise EditkitError(
                f"{name} {option} is not YAML behind the equals sign; quote the value."
            ) from error
        _set(found, key, read, f"{name} {option}")
    return found


def by_method(
    given: list[str] | None, option: str = "--option", of: str = "method"
) -> dict[str, dict[str, Any]]:
    """method.key=value options as options by method name, or by another kind of name.

    Raises:
        EditkitError: where one is not of that form.
    """
    found = pairs(given, option)
    for name, value in found.items():
        if not isinstance(value, dict):
            raise EditkitError(f"{option} {name}={value} must have the form {of}.key=value.")
    return found


def _set(found: dict[str, Any], key: str, value: Any, option: str) -> None:
    *above, last = key.split(".")
    for part in above:
        found = found.setdefault(part, {})
        if not isinstance(found, dict):
            raise EditkitError(
                f"{option} is nested in {part}, which another option sets as a whole; give one."
            )
    if isinstance(found.get(last), dict):
        raise EditkitError(f"{option} sets {last} as a whole, and another option something in it; give one.")
    found[last] = value
