"""Tell about a picture when it is uploaded: that it is none, or what to know before it is edited.

It has a line of its own: an upload may be told of late, when an edit has begun or is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from demos import theme
from demos.jobs import QUICK
from demos.pictures import Painted
from demos.place import Place
from editkit.errors import EditkitError


def line(name: str) -> Any:
    """Make the line of a tab's picture."""
    return gr.HTML(label="picture", elem_id=f"{name}-picture-said")


def tell(
    place: Place,
    picture: Any,
    read: Callable[[dict[str, Any] | None], Painted],
    said: Any,
    name: str,
    event: Callable[..., Any] | None = None,
) -> None:
    """Check each upload to a component.

    Args:
        place: what the tabs share.
        picture: the component.
        read: reads its payload.
        said: the line where it is said.
        name: of the tab.
        event: adds a listener of uploads; the component's own where None.
    """

    def uploaded(payload: dict[str, Any] | None) -> str:
        try:
            given = read(payload)
            source = given.checked()
        except EditkitError as error:
            return theme.problem(str(error))
        return theme.remarks((*given.notes, *place.device.remarks(source)))

    (event or picture.upload)(
        uploaded, [picture], [said], preprocess=False, api_name=f"{name}_upload", **QUICK
    )
    picture.clear(lambda: "", None, [said], **QUICK)
