"""Defaults that a person keeps in a file: those of options that an environment variable can set too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from editkit.errors import EditkitError

FILE = "config.yaml"
EPILOG = (
    "Defaults: the command line comes first, then EDITKIT_BACKBONE, EDITKIT_DEVICE and EDITKIT_DTYPE, then "
    f"backbone, device and dtype in {user_config_path('editkit') / FILE}."
)


@dataclass(frozen=True)
class Defaults:
    """The settings that a user's file may hold, as the options of the same names."""

    backbone: str | None = None
    device: str | None = None
    dtype: str | None = None


def kept() -> dict[str, str]:
    """Return the settings of the user's file.

    Raises:
        EditkitError: where it cannot be read, or holds an unknown key.
    """
    path: Path = user_config_path("editkit") / FILE
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError:
        pass  # reading it, below, says what is wrong
    from editkit import config

    values = config.read_yaml(path)
    try:
        found = config.build(Defaults, values)
    except EditkitError as error:
        raise EditkitError(f"{str(error).rstrip('.')} (in {path}).") from error
    return {name: value for name, value in asdict(found).items() if value is not None}


def by_command(command: Any, values: Mapping[str, str]) -> dict[str, Any]:
    """The values as click takes them: by command and parameter, for those that have a variable."""
    if commands := getattr(command, "commands", None):
        return {name: by_command(each, values) for name, each in commands.items()}
    return {
        each.name: values[each.name]
        for each in command.params
        if each.name in values and each.envvar == f"EDITKIT_{each.name.upper()}"
    }
