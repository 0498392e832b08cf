"""Put a LoRA on a local judge."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from editkit.errors import EditkitError, first_sentence

FILES = ("adapter_config.json", "adapter_model.safetensors")


def with_lora(model: Any, folder: Path, name: str, *, merge: bool) -> Any:
    """The model with a LoRA, merged into its weights where they are not quantized.

    Args:
        model: of transformers.
        folder: what PEFT's `save_pretrained` writes.
        name: what the LoRA was asked for by.
        merge: whether to add it to the weights, which makes replies faster.

    Raises:
        EditkitError: where files are missing, pickled, or do not fit the model.
    """
    import peft

    for file in FILES:  # PEFT would read a pickle where there are no safetensors
        if not (folder / file).is_file():
            raise EditkitError(
                f"The judge's LoRA {name} has no {file}; give a folder that PEFT saved in safetensors."
            )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Found missing adapter keys")
            made = peft.PeftModel.from_pretrained(model, folder)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError, UserWarning) as error:
        raise EditkitError(
            f"The judge's LoRA {name} does not fit its model ({first_sentence(error)}); give the model that "
            "it was trained on."
        ) from error
    return made.merge_and_unload().eval() if merge else made.eval()
