"""Load transformers' models from folders and the Hub's cache; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from editkit import atomic_files
from editkit.errors import first_sentence
from editkit.evaluation.metrics.base import AbsentMetricError


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalModel:
    """A model on this machine.

    Attributes:
        name: what it was asked for by.
        revision: the Hub's commit, or the digest of a folder's weights.
        network: in evaluation mode.
        processor: makes its inputs of pictures.
        tokenizer: makes its inputs of texts; None for models without words.
    """

    name: str
    revision: str
    network: Any
    processor: Any
    tokenizer: Any

    def describe(self) -> dict[str, Any]:
        """Model, revision and preprocessing, in JSON's types."""
        known = ("do_resize", "size", "resample", "do_center_crop", "crop_size", "image_mean", "image_std")
        told = self.processor.to_dict()
        return {
            "model": self.name,
            "revision": self.revision,
            "preprocessing": {name: _plain(told[name]) for name in known if name in told},
        }


def load_model(name: str, revision: str | None, network: str, *, texts: bool, device: str) -> LocalModel:
    """A model by folder or Hub id, safetensors only.

    Args:
        name: a folder, or a Hub id that is in the Hub's cache.
        revision: of a Hub id; its main branch where None.
        network: transformers' class.
        texts: whether it has a tokenizer.
        device: where it runs.

    Raises:
        AbsentMetricError: where it is not here or cannot be loaded.
    """
    import transformers
    from safetensors import SafetensorError

    folder = folder_of(name, revision)
    try:
        made = getattr(transformers, network).from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
        processor = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        tokenizer = (
            transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True) if texts else None
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise AbsentMetricError(f"The model {name} cannot be loaded ({first_sentence(error)}).") from error
    weights = folder / "model.safetensors"
    at_hub = folder.parent.name == "snapshots"
    mark = folder.name if at_hub or not weights.is_file() else f"sha256 {atomic_files.sha256(weights)[:16]}"
    return LocalModel(
        name=name,
        revision=mark,
        network=made.eval().requires_grad_(False).to(device),
        processor=processor,
        tokenizer=tokenizer,
    )


def folder_of(name: str, revision: str | None) -> Path:
    """A model's folder: itself, or where the Hub's cache keeps a Hub id.

    Raises:
        AbsentMetricError: where it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    find: Callable[..., str] = snapshot_download
    try:
        return Path(find(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise AbsentMetricError(
            f"The model {name} is not on this machine; get it with `hf download {name}` or give a folder."
        ) from error


def _plain(value: Any) -> Any:
    if hasattr(value, "items"):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool) or value is None else int(value)
