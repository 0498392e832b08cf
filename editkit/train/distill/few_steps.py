"""The common part of objectives that teach few steps."""

from __future__ import annotations

from editkit import notes
from editkit.backbone import Backbone
from editkit.config import Options
from editkit.method import Conditioner, Trainer
from editkit.train.objective import Objective
from editkit.train.settings import EditTrainConfig


class FewStepsObjective(Objective):
    """An objective whose teacher edits with the guidance that the student will have.

    A note says so where the settings leave it at 1 and edits of the role usually have more. The arguments are
    those of `Objective`.
    """

    def __init__(
        self,
        backbone: Backbone,
        role: str,
        conditioner: Conditioner[Options],
        trainer: Trainer[Options],
        settings: EditTrainConfig,
    ) -> None:
        super().__init__(backbone, role, conditioner, trainer, settings)
        _, usual = backbone.defaults(role)
        if settings.guidance <= 1 < usual:
            notes.tell(
                f"The teacher edits with guidance={settings.guidance:g}, and so will the student; edits of "
                f"{backbone.name} ({role}) usually have {usual:g}: set guidance to what you edit with."
            )
