"""ICEdit: FLUX.1 Fill paints the right half of a diptych whose left half is the source."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.icedit.record import METHOD as METHOD


def __getattr__(name: str) -> Any:
    """Import the record when it is asked for: its parts need torch, the options in `config` do not."""
    if name != "METHOD":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from methods.icedit.record import METHOD

    return METHOD
