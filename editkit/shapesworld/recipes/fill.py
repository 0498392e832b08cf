"""Trains role `fill` of the embedded backbone from its network that edits context pictures."""

from dataclasses import dataclass

from editkit.train.finetune import EditJob
from editkit.train.settings import EditTrainConfig


@dataclass(frozen=True, kw_only=True)
class FillConfig(EditTrainConfig):
    """Config of the recipe `fill`: all weights train, from the transformer of another role."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.start or self.trainable != "full":
            raise ValueError(
                "recipe=fill turns heads of a transformer that copies from a context picture, which spoils a "
                "trained fill: give start=text and trainable=full, or recipe=edit to train a fill further"
            )


class FillJob(EditJob):
    """Turns the heads that copy from a context picture: they begin by copying a diptych's left half."""

    def _prepare(self) -> None:
        panel, _ = self.backbone.sizes(self.role)[0]
        self.backbone.look_left(self.role, panel)
        super()._prepare()


CONFIG, JOB = FillConfig, FillJob
