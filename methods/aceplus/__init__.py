"""ACE++: image, mask and noise join on channels, references stand beside; a LoRA on Fill or a full model."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.aceplus.record import METHOD as METHOD


def __getattr__(name: str) -> Any:
    """Import the record when it is asked for: its parts need torch, the options in `config` do not."""
    if name != "METHOD":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from methods.aceplus.record import METHOD

    return METHOD
