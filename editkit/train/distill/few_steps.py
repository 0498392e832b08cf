"""The common part of objectives that teach few steps."""

from __future__ import annotations

from typing import Any

from editkit import notes
from editkit.backbone import Backbone
from editkit.train.objective import Objective


class FewStepsObjective(Objective):
    """An objective whose teacher edits with the guidance that the student will have.

    A note says so where the settings leave it at 1 and edits of the role usually have more. The arguments are
    those of `Objective`.
    """

    def __init__(self, backbone: Backbone, role: str, *arguments: Any) -> None:
        super().__init__(backbone, role, *arguments)
        _, usual = backbone.defaults(role)
        if self.settings.guidance <= 1 < usual:
            notes.tell(
                f"The teacher edits with guidance={self.settings.guidance:g}, and so will the student; "
                f"edits of {backbone.name} ({role}) usually have {usual:g}: set guidance to what you "
                "edit with."
            )
