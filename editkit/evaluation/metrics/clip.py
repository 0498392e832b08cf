"""CLIP's similarities of pictures and captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editkit.evaluation.metrics import local_models
from editkit.evaluation.metrics.base import HIGHER, Column
from editkit.evaluation.metrics.encodings import Encodings
from editkit.evaluation.records import RGB, Case, Scores


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Options of the metric `clip`."""

    model: str = "openai/clip-vit-base-patch32"
    """A folder, or a Hub id in the Hub's cache; MagicBrush and Emu Edit use ViT-B/32."""
    revision: str | None = None
    """Of a Hub id."""
    device: str = "cpu"
    """Where it runs."""


class Clip:
    """Compares results with true answers, sources and captions in CLIP's space.

    Raises:
        AbsentMetricError: where the model is not here.
    """

    Config = ClipConfig
    name = "clip"
    parallel = False
    columns = (
        Column(name="clip_i", better=HIGHER, meaning="cosine of result and true answer"),
        Column(name="clip_t", better=HIGHER, meaning="cosine of result and the true answer's caption"),
        Column(name="clip_out", better=HIGHER, meaning="cosine of result and caption, without a true answer"),
        Column(name="clip_dir", better=HIGHER, meaning="cosine of the pictures' and the captions' change"),
        Column(name="source_clip_i", better=HIGHER, meaning="cosine of result and source"),
    )

    def __init__(self, config: ClipConfig) -> None:
        self.model = local_models.load_model(
            config.model, config.revision, "CLIPModel", texts=True, device=config.device
        )
        self._encodings = Encodings(lambda picture: tuple(self.pictures([picture])))

    def describe(self) -> Mapping[str, Any]:
        """Model, revision, preprocessing; every picture goes through it at its own size."""
        return {**self.model.describe(), "resize": "the model's own preprocessing", "tokens": self._longest}

    @torch.no_grad()
    def score(self, case: Case) -> Scores:
        """Score a case by what it has: true answer, source, captions."""
        (result,) = self._encodings(case.result)
        values = {}
        source = None if case.source is None else self._encodings(case.source)[0]
        if source is not None:
            values["source_clip_i"] = cosine(result, source)
        if case.answer is not None:
            values["clip_i"] = cosine(result, self._encodings(case.answer)[0])
        if case.item.answer_caption:
            caption = self.texts([case.item.answer_caption])[0]
            values["clip_out" if case.answer is None else "clip_t"] = cosine(result, caption)
            if source is not None and case.item.source_caption:
                before = self.texts([case.item.source_caption])[0]
                values["clip_dir"] = cosine(result - source, caption - before)
        return Scores(values=values)

    def pictures(self, pictures: Sequence[RGB]) -> Tensor:
        """Unit vectors of pictures, (B, D)."""
        network = self.model.network
        pixels = self.model.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        seen = network.vision_model(pixel_values=pixels.to(network.device)).pooler_output
        return F.normalize(network.visual_projection(seen).float().cpu(), dim=-1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors of texts, (B, D); what is longer than the model's context is cut."""
        network = self.model.network
        tokens = self.model.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        ).to(network.device)
        read = network.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        return F.normalize(network.text_projection(read).float().cpu(), dim=-1)

    @property
    def _longest(self) -> int:
        return int(self.model.network.config.text_config.max_position_embeddings)


def cosine(first_D: Tensor, second_D: Tensor) -> float:
    """Cosine of two vectors; 0 where one of them is 0."""
    return float(F.cosine_similarity(first_D, second_D, dim=-1))
