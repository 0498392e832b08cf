"""editkit: instruction-based image editing on FLUX, with interchangeable methods."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editkit.api import backbones, load, load_session, methods, replay
    from editkit.editor import Editor
    from editkit.errors import EditkitError
    from editkit.inference.search_settings import SeedSearch
    from editkit.request import EditRequest
    from editkit.sessions.replay import Replay
    from editkit.sessions.session import Session
    from editkit.types import EditResult

__version__ = "0.1.0"
__all__ = [
    "EditRequest",
    "EditResult",
    "EditkitError",
    "Editor",
    "Replay",
    "SeedSearch",
    "Session",
    "backbones",
    "load",
    "load_session",
    "methods",
    "replay",
]

# Names are imported when first used, so that `import editkit` and `editkit --help` stay fast.
_HOMES = {
    "EditRequest": "editkit.request",
    "EditResult": "editkit.types",
    "EditkitError": "editkit.errors",
    "Editor": "editkit.editor",
    "Replay": "editkit.sessions.replay",
    "SeedSearch": "editkit.inference.search_settings",
    "Session": "editkit.sessions.session",
    "backbones": "editkit.api",
    "load": "editkit.api",
    "load_session": "editkit.api",
    "methods": "editkit.api",
    "replay": "editkit.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'editkit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(["__version__", *__all__])
