"""Limits of a client's request, checked once its fields have been read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from editkit.inference import speed_settings
from editkit.inference.speed_settings import StepSaving
from editkit.serving import request_fields
from editkit.serving.refusals import RefusedError
from editkit.serving.settings import ServerSettings


def check_limits(fields: Mapping[str, Any], settings: ServerSettings) -> None:
    """Check the values of fields of `EditRequest`.

    Raises:
        RefusedError: for one over a limit.
    """
    steps, size, search = fields.get("steps"), fields.get("size"), fields.get("search")
    if steps is not None and steps > settings.steps:
        raise RefusedError(f"steps={steps} is not allowed; give 1 to {settings.steps}.", param="steps")
    _check_draft(fields.get("speed"), settings)
    if size is not None and size[0] * size[1] > settings.canvas_pixels:
        allowed = f"{settings.canvas_pixels:,} pixels"
        raise RefusedError(
            f"size={size[0]}x{size[1]} is too large; up to {allowed} are allowed.", param="size"
        )
    if search is None:
        return
    if search.options:
        raise RefusedError("The options of a judge are the operator's; leave them out.", param="search")
    if search.seeds > settings.seeds:
        raise RefusedError(
            f"A search over {search.seeds} seeds is not allowed; give up to {settings.seeds}.", param="search"
        )
    if search.judge not in settings.judges:
        allowed = ", ".join(settings.judges)
        raise RefusedError(f"The judge {search.judge!r} is not offered; there are {allowed}.", param="search")


def _check_draft(asked: str | None, settings: ServerSettings) -> None:
    """Check the steps of a draft, which come on top of those of the edit."""
    if asked is None or "=" not in asked:
        return
    chosen = speed_settings.parse(asked)
    if isinstance(chosen, StepSaving) and chosen.draft > settings.steps:
        raise RefusedError(
            f"speed=draft={chosen.draft} is not allowed; give a draft of up to {settings.steps} steps.",
            param="speed",
        )


def count(given: Any, settings: ServerSettings) -> int:
    """Read `n`.

    Raises:
        EditkitError: where it is no whole number, or out of range.
    """
    value = 1 if given is None or given == "" else request_fields.whole("n", given)
    if not 1 <= value <= settings.results:
        raise RefusedError(f"n={value} is not allowed; give 1 to {settings.results}.", param="n")
    return value
