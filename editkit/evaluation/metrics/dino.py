"""DINO's similarity of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from editkit.evaluation.metrics import local_models
from editkit.evaluation.metrics.base import HIGHER, Column
from editkit.evaluation.metrics.clip import cosine
from editkit.evaluation.metrics.encodings import Encodings
from editkit.evaluation.records import RGB, Case, Scores


@dataclass(frozen=True, kw_only=True)
class DinoConfig:
    """Options of the metric `dino`."""

    model: str = "facebook/dino-vits16"
    """A folder, or a Hub id in the Hub's cache; MagicBrush and Emu Edit use ViT-S/16."""
    revision: str | None = None
    """Of a Hub id."""
    device: str = "cpu"
    """Where it runs."""


class Dino:
    """Compares results with true answers and sources by the class token of DINO.

    Raises:
        AbsentMetricError: where the model is not here.
    """

    Config = DinoConfig
    name = "dino"
    parallel = False
    columns = (
        Column(name="dino", better=HIGHER, meaning="cosine of result and true answer"),
        Column(name="source_dino", better=HIGHER, meaning="cosine of result and source"),
    )

    def __init__(self, config: DinoConfig) -> None:
        self.model = local_models.load_model(
            config.model, config.revision, "ViTModel", texts=False, device=config.device
        )
        self._encodings = Encodings(self._encoded)

    def describe(self) -> Mapping[str, Any]:
        """Model, revision, preprocessing; every picture goes through it at its own size."""
        return {**self.model.describe(), "resize": "the model's own preprocessing", "feature": "class token"}

    @torch.no_grad()
    def score(self, case: Case) -> Scores:
        """Score a case against its true answer and its source."""
        (result,) = self._encodings(case.result)
        pairs = {"dino": case.answer, "source_dino": case.source}
        return Scores(
            values={
                name: cosine(result, self._encodings(other)[0])
                for name, other in pairs.items()
                if other is not None
            }
        )

    def _encoded(self, picture: RGB) -> tuple[Tensor]:
        network = self.model.network
        pixels = self.model.processor(images=[picture], return_tensors="pt")["pixel_values"]
        states: Tensor = network(pixel_values=pixels.to(network.device)).last_hidden_state
        return (states[0, 0].float().cpu(),)
