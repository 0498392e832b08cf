"""FLUX.1 Kontext: the source's tokens join the sequence; a RoPE offset tells them apart."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.kontext.record import METHOD as METHOD


def __getattr__(name: str) -> Any:
    """Import the record when it is asked for: its parts need torch, the options in `config` do not."""
    if name != "METHOD":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from methods.kontext.record import METHOD

    return METHOD
