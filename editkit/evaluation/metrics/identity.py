"""Whether a face is still the same person's, by AuraFace's embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from editkit import atomic_files
from editkit.errors import first_sentence
from editkit.evaluation.metrics import local_models
from editkit.evaluation.metrics.base import HIGHER, AbsentMetricError, Column
from editkit.evaluation.metrics.encodings import Encodings
from editkit.evaluation.records import RGB, Case, Item, Scores

DETECTOR, RECOGNIZER = "scrfd_10g_bnkps.onnx", "glintr100.onnx"
"""AuraFace's own names of its files."""
SIDE, THRESHOLD = 640, 0.5
"""Default input size and threshold of insightface's detector."""


@dataclass(frozen=True, kw_only=True)
class IdentityConfig:
    """Options of the metric `identity`."""

    model: str = "fal/AuraFace-v1"
    """A folder, or a Hub id in the Hub's cache. The Kontext paper uses AuraFace."""
    revision: str | None = None
    """Of a Hub id."""
    device: str = "cpu"
    """`cpu` or `cuda`, which needs onnxruntime-gpu."""

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, not {self.device!r}")


class Identity:
    """Compares the face in a result with the face that its session began with.

    Raises:
        AbsentMetricError: where the model or insightface is not here.
    """

    Config = IdentityConfig
    name = "identity"
    parallel = False
    columns = (
        Column(
            name="identity",
            better=HIGHER,
            meaning="cosine of the faces' embeddings, to the first source of the session",
            failed=0.0,
            always=False,
        ),
    )

    def __init__(self, config: IdentityConfig) -> None:
        self.config = config
        folder = local_models.folder_of(config.model, config.revision)
        for name in (DETECTOR, RECOGNIZER):
            if not (folder / name).is_file():
                raise AbsentMetricError(f"The folder {folder} has no {name}; give one of AuraFace's.")
        self._revision = (
            folder.name
            if folder.parent.name == "snapshots"
            else f"sha256 {atomic_files.sha256(folder / RECOGNIZER)[:16]}"
        )
        self._faces = _load(folder, config.device)
        self._encodings = Encodings(self._encoded)

    def describe(self) -> Mapping[str, Any]:
        """Model, revision, and which faces are compared."""
        return {
            "model": self.config.model,
            "revision": self._revision,
            "library": f"insightface {version('insightface')}, onnxruntime {version('onnxruntime')}",
            "preprocessing": f"detection at {SIDE}, score from {THRESHOLD}; aligned by five points to 112",
            "faces": "the largest one of the session's first source; the result's nearest one, 0 without any",
        }

    def asks(self, item: Item, first: RGB | None) -> bool:
        """Return whether an item's session begins with a picture of a face."""
        return first is not None and len(self._encodings(first)[0]) > 0

    def score(self, case: Case) -> Scores:
        """Score a case whose session begins with a picture of a face."""
        if case.first is None:
            return Scores()
        (first_FD,) = self._encodings(case.first)
        if not len(first_FD):
            return Scores(notes={"faces": "none in the source"})
        (result_FD,) = self._encodings(case.result)
        notes = {"faces": [len(first_FD), len(result_FD)]}
        nearest = float((result_FD @ first_FD[0]).max()) if len(result_FD) else 0.0
        return Scores(values={"identity": nearest}, notes=notes)

    def _encoded(self, picture: RGB) -> tuple[torch.Tensor]:
        """Unit vectors of a picture's faces, the largest first, (number of faces, D)."""
        found = self._faces.get(np.ascontiguousarray(picture[..., ::-1]))
        found.sort(key=lambda face: float(np.prod(face.bbox[2:] - face.bbox[:2])), reverse=True)
        return (torch.tensor(np.array([face.normed_embedding for face in found], dtype=np.float32)),)


def _load(folder: Path, device: str) -> Any:
    """insightface on a folder of AuraFace's; it is given a path, so it downloads nothing."""
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise AbsentMetricError(
            "It needs the package insightface: pip install 'editkit[identity]'."
        ) from error
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    try:
        made = FaceAnalysis(
            name=str(folder), allowed_modules=["detection", "recognition"], providers=[provider]
        )
        made.prepare(ctx_id=0 if device == "cuda" else -1, det_thresh=THRESHOLD, det_size=(SIDE, SIDE))
    except Exception as error:  # of onnxruntime, which has a class for each kind of failure
        raise AbsentMetricError(
            f"The face model in {folder} cannot be loaded ({first_sentence(error)})."
        ) from error
    if "recognition" not in made.models:
        raise AbsentMetricError(f"{folder / RECOGNIZER} is no network that recognizes faces.")
    return made
