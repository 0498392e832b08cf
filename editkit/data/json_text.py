"""JSON as text."""

import json
from typing import Any

from editkit.errors import EditkitError


def parsed(text: str, where: str) -> Any:
    """JSON whose objects have each key once.

    Raises:
        EditkitError: where it is none.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except KeyError as error:
        raise EditkitError(f"{where} has {error} twice; keep one of them.") from error
    except (ValueError, RecursionError) as error:
        raise EditkitError(f"{where} is no JSON; give one object a line.") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys come once, where JSON's own rule is that the last one counts."""
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise KeyError(key)
        made[key] = value
    return made
