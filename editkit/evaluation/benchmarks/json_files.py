"""Read the JSON files of benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from editkit.data.text_files import parse_json
from editkit.errors import EditkitError


def read_object(path: Path) -> dict[str, Any]:
    """A file that is one JSON object whose keys come once.

    Raises:
        EditkitError: where it is absent or something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise EditkitError(f"There is no {path}; give --data of the benchmark as it is published.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EditkitError(f"The file {path} cannot be read; give JSON in UTF-8.") from error
    found = parse_json(text, f"The file {path}")
    if not isinstance(found, dict):
        raise EditkitError(f"The file {path} is no JSON object; give the benchmark's own file.")
    return found
