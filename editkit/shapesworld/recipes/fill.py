"""Trains role `fill` of the embedded backbone from its network that edits context pictures."""

from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig


class FillJob(EditJob):
    """Turns the heads that copy from a context picture: they begin by copying a diptych's left half."""

    def _prepare(self) -> None:
        panel, _ = self.backbone.sizes(self.role)[0]
        self.backbone.look_left(self.role, panel)
        super()._prepare()


CONFIG, JOB = EditTrainConfig, FillJob
