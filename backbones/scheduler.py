"""Read the time shift of a pipeline folder from its scheduler's config, and make schedulers of one."""

import json
from pathlib import Path

from diffusers import FlowMatchEulerDiscreteScheduler

from editkit.errors import EditkitError
from editkit.flow import FLUX_DEV, TimeShift

OTHER_TIMES = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "invert_sigmas",
    "shift_terminal",
)
"""Options of diffusers' FlowMatchEulerDiscreteScheduler that no FLUX uses."""


def time_shift(folder: Path) -> TimeShift:
    """Return the time shift of a diffusers pipeline folder.

    Raises:
        EditkitError: where the config is missing or damaged, or sets an option that no FLUX uses.
    """
    path = folder / "scheduler" / "scheduler_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return _read(config, path)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EditkitError(
            f"The file {path} is missing or is not a scheduler's config; give a whole diffusers folder."
        ) from error


def _read(config: dict[str, object], path: Path) -> TimeShift:
    """Make the time shift of a scheduler's config; the path is for error messages."""
    asked = [name for name in OTHER_TIMES if config.get(name)]
    if config.get("time_shift_type", "exponential") != "exponential":
        asked.append("time_shift_type")
    if asked:
        raise EditkitError(
            f"{path} sets {', '.join(asked)}, which no FLUX.1 uses; remove it to sample as FLUX.1 does."
        )
    if not config.get("use_dynamic_shifting", False):
        return TimeShift(fixed=float(str(config.get("shift", 1.0))))
    return TimeShift(
        base_tokens=int(str(config.get("base_image_seq_len", FLUX_DEV.base_tokens))),
        max_tokens=int(str(config.get("max_image_seq_len", FLUX_DEV.max_tokens))),
        base_shift=float(str(config.get("base_shift", FLUX_DEV.base_shift))),
        max_shift=float(str(config.get("max_shift", FLUX_DEV.max_shift))),
    )


def scheduler(shift: TimeShift) -> FlowMatchEulerDiscreteScheduler:
    """Make diffusers' scheduler that shifts times so."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=shift.fixed is None,
        shift=1.0 if shift.fixed is None else shift.fixed,
        base_shift=shift.base_shift,
        max_shift=shift.max_shift,
        base_image_seq_len=shift.base_tokens,
        max_image_seq_len=shift.max_tokens,
    )
