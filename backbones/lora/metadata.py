"""Read the LoraConfig in a file's metadata, as diffusers writes it, or in peft's `adapter_config.json`."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from backbones.lora.keys import PREFIX
from editkit.adapters import METADATA
from editkit.errors import EditkitError

DOWN = ".lora_A.weight"
"""Ending of the keys of first matrices in diffusers' layout."""
CHANGED_BASES = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Values of `init_lora_weights`, by their beginnings, with which peft changes the base weights too."""
VARIANTS = (
    "alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "megatron_config",
    "modules_to_save", "monteclora_config", "target_parameters", "trainable_token_indices", "use_bdlora",
    "use_qalora", "velora_config",
)  # fmt: skip
"""Fields of a LoraConfig that change how the matrices are applied, or train other weights too."""
BIASES = ("all", "lora_only")
"""Values of `bias` with which a base's biases are trained beside the matrices."""


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
    strange = [key for key in VARIANTS if found.get(key)]
    strange += [f"bias={found['bias']}"] if found.get("bias") in BIASES else []
    if strange:
        raise EditkitError(
            f"The file's LoraConfig has {strange[0]}, which is not supported; give a plain LoRA."
        )
    if str(found.get("init_lora_weights", "")).lower().startswith(CHANGED_BASES):
        raise EditkitError(
            f"The LoRA is of a base that {found['init_lora_weights']} changed; convert it to a plain LoRA "
            "with peft's save_pretrained(path_initial_model_for_weight_conversion=...)."
        )
    return found


def alpha_lookup(about: Mapping[str, str]) -> Callable[[str, int], float]:
    """Return a function from module and rank to alpha; where the metadata have none, alpha is the rank.

    The function raises EditkitError where the metadata say another rank.

    Raises:
        EditkitError: where the metadata cannot be read, or an alpha is 0 or not finite.
    """
    found = lora_config(about)
    try:
        patterns = {str(key): float(value) for key, value in (found.get("alpha_pattern") or {}).items()}
        common = None if found.get("lora_alpha") is None else float(found["lora_alpha"])
        ranks = dict(found.get("rank_pattern") or {})
        _ = [re.compile(key) for key in (*patterns, *ranks)]
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise _unreadable() from error
    values = [value for value in (common, *patterns.values()) if value is not None]
    if not all(map(math.isfinite, values)):
        raise EditkitError("The file's metadata have an alpha that is not finite; correct them.")
    if 0 in values:
        raise EditkitError("The file's metadata say alpha 0, so it would change nothing; correct them.")

    def chosen(module: str, rank: int) -> float:
        from peft.utils.other import get_pattern_key

        told = ranks.get(get_pattern_key(list(ranks), module), found.get("r", rank))
        if rank and told != rank:
            raise EditkitError(
                f"The file's metadata say rank {told} for {module}, whose matrices have rank {rank}, so its "
                "scale is not known; correct or remove the metadata."
            )
        value = patterns.get(get_pattern_key(list(patterns), module), common) if patterns else common
        return float(rank) if value is None else value * (rank**0.5 if found.get("use_rslora") else 1)

    return chosen


def describes(about: Mapping[str, str], state: Mapping[str, Tensor]) -> bool:
    """Whether peft can make this LoRA by its metadata, which may be missing, as they are.

    They must be as diffusers' pipelines write them, have no field of a newer peft, and agree with the
    tensors.

    Args:
        about: metadata, which `alpha_lookup` has read without an error.
        state: tensors in diffusers' layout.
    """
    if METADATA not in about:
        return True
    from peft import LoraConfig
    from peft.utils.other import get_pattern_key

    config, ends = lora_config(about), {".lora_B.bias": "lora_bias", ".lora_magnitude_vector": "use_dora"}
    if not any(key.startswith(PREFIX) for key in json.loads(about[METADATA])):
        return False
    known = {each.name for each in dataclasses.fields(LoraConfig)}
    if not config.keys() <= known or not isinstance(config.get("lora_alpha"), int | float):
        return False
    if any(bool(config.get(name)) != any(key.endswith(end) for key in state) for end, name in ends.items()):
        return False
    ranks = config.get("rank_pattern") or {}
    modules = {
        key.removeprefix(PREFIX).removesuffix(DOWN): tensor.shape[:1]
        for key, tensor in state.items()
        if key.endswith(DOWN)
    }
    return all(
        (ranks.get(get_pattern_key(list(ranks), module), config.get("r")),) == rank
        for module, rank in modules.items()
    )


def _unreadable() -> EditkitError:
    return EditkitError(f"The metadata {METADATA} cannot be read; remove or correct them.")
