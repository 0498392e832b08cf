"""editkit as a model of lmms-eval, for its tasks of picture editing."""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """Describe the model to lmms-eval's registry, through the entry point `lmms_eval.models`."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="editkit", simple_class_path=f"{__name__}.model.EditkitModel")
