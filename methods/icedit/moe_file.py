"""Files of ICEdit's adapters in the released layout: split and check their tensors."""

import json
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from editkit.backbone import Transformer, provider
from editkit.errors import EditkitError, first_sentence

METADATA = "icedit_moe"
"""Key in a file's metadata under which the options of the experts are."""
PREFIX = "transformer."
EXPERT = re.compile(r"(.+)\.lora_([AB])\.expert_(\d+)\.weight")
BLOCK = re.compile(r"(single_)?transformer_blocks\.\d+\.")
ROUTE = re.compile(r"(.+)\.lora_route\.weight")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One module's experts: down (E, r, I), up (E, O, r) and router (E, I)."""

    down_ErI: Tensor
    up_EOr: Tensor
    route_EI: Tensor


def has_experts(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a LoRA-MoE."""
    return any(EXPERT.fullmatch(key) or ROUTE.fullmatch(key) for key in state)


def ends(modules: Iterable[str]) -> tuple[str, ...]:
    """Strip the blocks from modules' names; return each end once."""
    return tuple(dict.fromkeys(BLOCK.sub("", module) for module in modules))


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Parts]]:
    """Split tensors into those of the plain LoRA, by key, and the experts, by module name.

    Raises:
        EditkitError: where a module lacks an expert or its router, or its experts differ in shape.
    """
    if strange := [key for key, tensor in state.items() if tensor.ndim != 2]:
        raise EditkitError(
            f"The tensor {strange[0]} is no matrix, so it does not belong to an ICEdit adapter."
        )
    plain: dict[str, Tensor] = {}
    found: dict[str, dict[str, dict[int, Tensor]]] = defaultdict(lambda: {"A": {}, "B": {}})
    routes: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if match := EXPERT.fullmatch(key):
            module, letter, number = match.groups()
            found[module.removeprefix(PREFIX)][letter][int(number)] = tensor
        elif match := ROUTE.fullmatch(key):
            routes[match[1].removeprefix(PREFIX)] = tensor
        else:
            plain[key] = tensor
    if alone := sorted(found.keys() ^ routes.keys()):
        raise EditkitError(f"{alone[0]} has experts or a router but not both; give the whole file.")
    return plain, {module: _parts(module, found[module], routes[module]) for module in found}


def _parts(module: str, letters: dict[str, dict[int, Tensor]], route_EI: Tensor) -> Parts:
    numbers = list(range(len(route_EI)))
    stacked = {}
    for letter, tensors in letters.items():
        if sorted(tensors) != numbers:
            raise EditkitError(
                f"{module} has experts {sorted(tensors)} of lora_{letter}, but a router of {len(numbers)}; "
                f"give the whole file."
            )
        if len({tensor.shape for tensor in tensors.values()}) > 1:
            raise EditkitError(
                f"The experts of {module} differ in rank; give a file whose experts have one rank."
            )
        stacked[letter] = torch.stack([tensors[number] for number in numbers])
    down_ErI, up_EOr = stacked["A"], stacked["B"]
    rank, inputs = down_ErI.shape[1:]
    if not rank:
        raise EditkitError(f"The experts of {module} have rank 0; give an undamaged file.")
    if up_EOr.shape[2] != rank or route_EI.shape[1] != inputs:
        raise EditkitError(f"The tensors of {module} do not fit each other; give an undamaged file.")
    return Parts(down_ErI=down_ErI, up_EOr=up_EOr, route_EI=route_EI)


def options(cls: type[T], about: Mapping[str, str], first: Parts) -> T:
    """Read the options of the experts from metadata; without these, one expert of weight 1, as released.

    Raises:
        EditkitError: where the metadata cannot be read.
    """
    experts, rank = first.down_ErI.shape[:2]
    values: dict[str, Any] = {"router": "released", "top_k": 1}
    try:
        if metadata := _metadata(about):
            known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
            values = {key: value for key, value in metadata.items() if key in known}
            values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**(values | {"experts": experts, "rank": rank}))
    except (ValueError, TypeError, AttributeError) as error:
        problem = first_sentence(error)
        raise EditkitError(
            f"The metadata {METADATA} cannot be used ({problem}); repair or remove them."
        ) from error


def check_fit(
    transformer: Transformer,
    plain: Mapping[str, Tensor],
    experts: Mapping[str, Parts],
    about: Mapping[str, str],
) -> None:
    """Check that all tensors fit the transformer and that none is missing.

    Every block must have the experts, and the plain LoRA that the metadata name.

    Raises:
        EditkitError: for the first tensor that does not fit or is missing.
    """
    metadata = _metadata(about)
    wanted = metadata.get("in_channels", transformer.config.in_channels)
    if wanted != transformer.config.in_channels:
        raise EditkitError(
            f"The adapter is for a transformer of {wanted} channels, and this one takes "
            f"{transformer.config.in_channels}; load it on FLUX.1 Fill."
        )
    fit = provider().lora
    plain_shapes = fit.update_shapes(plain)
    if both := sorted(plain_shapes.keys() & experts.keys()):
        raise EditkitError(f"The adapter has experts and a plain LoRA on {both[0]}; it can have one.")
    of_experts = {
        module: (parts.up_EOr.shape[1], parts.down_ErI.shape[2]) for module, parts in experts.items()
    }
    fit.check_shapes(transformer, of_experts | plain_shapes)
    _check_complete(transformer, ends(experts), experts, "experts")
    _check_complete(transformer, metadata.get("plain", ()), plain_shapes, "a plain LoRA")
    fit.check_finite(
        (*plain.values(), *(t for p in experts.values() for t in (p.down_ErI, p.up_EOr, p.route_EI)))
    )


def _metadata(about: Mapping[str, str]) -> dict[str, Any]:
    """Read the file's metadata on experts; empty where there are none."""
    try:
        metadata: dict[str, Any] = dict(json.loads(about.get(METADATA, "{}")))
        lists = [metadata.get(key, ()) for key in ("targets", "plain")]
        if not all(isinstance(name, str) for each in lists for name in each):
            raise TypeError("targets and plain are lists of names")
    except (ValueError, TypeError) as error:
        problem = first_sentence(error)
        raise EditkitError(
            f"The metadata {METADATA} cannot be used ({problem}); repair or remove them."
        ) from error
    return metadata


def _check_complete(transformer: Transformer, names: Iterable[str], held: Container[str], what: str) -> None:
    """Check that all modules with these ends of names have an adapter."""
    for end in names:
        linear = [path for path, module in transformer.named_modules() if hasattr(module, "in_features")]
        there = [path for path in linear if path != end and BLOCK.sub("", path) == end] or [end]
        if missing := [path for path in there if path not in held]:
            raise EditkitError(
                f"The adapter has {what} on {len(there) - len(missing)} of {len(there)} modules called "
                f"{end}, and none on {missing[0]}; give the whole file."
            )
