"""What is said of a picture when it is uploaded: that it is none, or what to know before it is edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from demos import theme
from demos.jobs import QUICK
from demos.pictures import Painted
from demos.place import Place
from editkit.errors import EditkitError


def tell(
    place: Place, picture: Any, read: Callable[[dict[str, Any] | None], Painted], status: Any, name: str
) -> None:
    """Check each upload to a component.

    Args:
        place: what the tabs share.
        picture: the component.
        read: reads its payload.
        status: where it is said.
        name: of the tab.
    """

    def uploaded(payload: dict[str, Any] | None) -> str:
        try:
            given = read(payload)
            source = given.checked()
        except EditkitError as error:
            return theme.problem(str(error))
        return theme.status("Ready.", notes=(*given.notes, *place.device.remarks(source)))

    picture.upload(uploaded, [picture], [status], preprocess=False, api_name=f"{name}_upload", **QUICK)
