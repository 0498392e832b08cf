"""Read the LoraConfig in a file's metadata, as diffusers writes it, or in peft's `adapter_config.json`."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from backbones.lora.keys import PREFIX
from editkit.adapters import METADATA
from editkit.errors import EditkitError

CHANGED_BASES = ("pissa", "olora", "corda", "loftq")
"""Values of `init_lora_weights`, by their beginnings, with which peft changes the base weights too."""
VARIANTS = (
    "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "monteclora_config",
    "use_bdlora", "use_qalora", "velora_config",
)  # fmt: skip
"""Fields of a LoraConfig that change how the matrices are applied."""


def lora_config(about: Mapping[str, str]) -> dict[str, Any]:
    """Return the LoraConfig in a file's metadata, with or without diffusers' prefix; else an empty dict.

    Raises:
        EditkitError: where it cannot be read, or is of a kind that is not a plain sum of weights and updates.
    """
    try:
        values = json.loads(about.get(METADATA, "{}"))
    except ValueError as error:
        raise _unreadable() from error
    if not isinstance(values, dict):
        raise _unreadable()
    own = {key.removeprefix(PREFIX): value for key, value in values.items() if key.startswith(PREFIX)}
    # `save_lora_adapter` and peft write no prefix; keys with a dot belong to another component.
    found = own or {key: value for key, value in values.items() if "." not in key}
    if strange := [key for key in VARIANTS if found.get(key)]:
        raise EditkitError(
            f"The file's LoraConfig has {strange[0]}, which is not supported; give a plain LoRA."
        )
    if str(found.get("init_lora_weights", "")).startswith(CHANGED_BASES):
        raise EditkitError(
            f"The LoRA is of a base that {found['init_lora_weights']} changed; convert it to a plain LoRA "
            "with peft's save_pretrained(path_initial_model_for_weight_conversion=...)."
        )
    return found


def alpha_lookup(about: Mapping[str, str]) -> Callable[[str, int], float]:
    """Return a function from module and rank to alpha; where the metadata have none, alpha is the rank.

    Raises:
        EditkitError: where the metadata cannot be read, or an alpha is 0.
    """
    found = lora_config(about)
    try:
        patterns = {str(key): float(value) for key, value in (found.get("alpha_pattern") or {}).items()}
        common = None if found.get("lora_alpha") is None else float(found["lora_alpha"])
    except (ValueError, TypeError, AttributeError) as error:
        raise _unreadable() from error
    if 0 in (common, *patterns.values()):
        raise EditkitError("The file's metadata say alpha 0, so it would change nothing; correct them.")

    def chosen(module: str, rank: int) -> float:
        from peft.utils.other import get_pattern_key

        value = patterns.get(get_pattern_key(list(patterns), module), common) if patterns else common
        return float(rank) if value is None else value * (rank**0.5 if found.get("use_rslora") else 1)

    return chosen


def is_prefixed(about: Mapping[str, str]) -> bool:
    """Whether the metadata are as diffusers' pipelines write them, or there are none."""
    return METADATA not in about or any(key.startswith(PREFIX) for key in json.loads(about[METADATA]))


def _unreadable() -> EditkitError:
    return EditkitError(f"The metadata {METADATA} cannot be read; remove or correct them.")
