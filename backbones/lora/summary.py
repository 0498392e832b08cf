"""Summarise what is in a LoRA file of FLUX."""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from backbones import families
from backbones.lora import coverage, dialect_reader, fused_modules, keys, lycoris_factors
from editkit.backbone import AdapterSignature, ExpertsSummary, LoraSummary
from editkit.errors import EditkitError

FULL = (3072, 19, 38)
"""Width and numbers of blocks of every published FLUX."""
EXPERT = re.compile(r"(?:transformer\.)?(.+)\.lora_A\.expert_(\d+)\.weight")
"""Pattern of the key of an expert's first matrix."""
OUTPUTS = ("context_embedder", "linear_1", "linear_2", "ff.net.2", "ff_context.net.2", "x_embedder")
"""Endings of the modules whose outputs are as wide as the transformer; the others have such inputs."""


def inspect(
    state: Mapping[str, Tensor], about: Mapping[str, str], signatures: Mapping[str, AdapterSignature]
) -> LoraSummary:
    """Summarise a file by its tensors and metadata.

    Args:
        state: tensors by key.
        about: metadata of the file.
        signatures: how each method's files are recognised, by the method's name.

    Raises:
        EditkitError: where there is no valid LoRA of FLUX's transformer among them.
    """
    if sort := lycoris_factors.kind(state):
        return _lycoris(sort, state, about, signatures)
    routed = experts(state, about, signatures)
    _check_experts(state)
    # A LoRA-MoE may have no plain LoRA, but each of its modules has a first expert.
    first = {key.replace(".expert_0.", "."): tensor for key, tensor in state.items() if ".expert_0." in key}
    both = dialect_reader.read_in_diffusers_names({**state, **first}, about)
    updates = {name: update for name, update in both.updates.items() if not _is_expert(name, state)}
    shapes = {name: (len(each.up_Or), each.down_rI.shape[1]) for name, each in both.updates.items()}
    width = _width(shapes)
    embedder = updates.get("x_embedder")
    takes = embedder.down_rI.shape[1] if embedder else None
    return LoraSummary(
        dialect=both.dialect,
        method=_method(about, routed is not None, takes, signatures),
        width=width,
        base=families.base_of_width(width),
        x_embedder=takes,
        ranks=dict(Counter(update.rank for update in updates.values()).most_common()),
        alphas=dict(Counter(update.alpha for update in updates.values()).most_common()),
        kinds=_kinds(updates),
        modules=len(updates),
        possible=_possible(both.updates, width),
        experts=routed,
        unplaced=both.unplaced,
    )


def _lycoris(
    sort: str,
    state: Mapping[str, Tensor],
    about: Mapping[str, str],
    signatures: Mapping[str, AdapterSignature],
) -> LoraSummary:
    """Summarise a LoKr or LoHa."""
    factors = lycoris_factors.split(lycoris_factors.read_factors(state, about))
    if not factors:
        raise EditkitError(f"The file holds no {sort} of FLUX's transformer; give a file with one.")
    shapes = {name: each.shape for name, each in factors.items()}
    width = _width(shapes)
    takes = shapes["x_embedder"][1] if "x_embedder" in shapes else None
    return LoraSummary(
        dialect=lycoris_factors.dialect(state),
        method=_method(about, False, takes, signatures),
        width=width,
        base=families.base_of_width(width),
        x_embedder=takes,
        ranks=dict(Counter(each.rank for each in factors.values()).most_common()),
        alphas=dict(Counter(each.scale * each.rank for each in factors.values()).most_common()),
        kinds=_kinds(factors),
        modules=len(factors),
        possible=_possible(factors, width),
        experts=None,
        unplaced=(),
        sort=sort,
    )


def _kinds(names: Iterable[str]) -> dict[str, int]:
    """Count modules by kind, blocks taken together."""
    return dict(Counter(re.sub(r"\.\d+\.", ".*.", name, count=1) for name in names))


def _is_expert(module: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a module has experts."""
    return any(f"{prefix}{module}.lora_A.expert_0.weight" in state for prefix in (keys.PREFIX, ""))


def has_experts(state: Iterable[str]) -> bool:
    """Whether the keys are those of a LoRA-MoE."""
    return any(map(EXPERT.fullmatch, state))


def experts(
    state: Mapping[str, Tensor], about: Mapping[str, str], signatures: Mapping[str, AdapterSignature]
) -> ExpertsSummary | None:
    """Summarise the LoRA-MoE among tensors and metadata; None where there is none.

    Raises:
        EditkitError: where it is damaged or its metadata cannot be read.
    """
    found = {match: tensor for key, tensor in state.items() if (match := EXPERT.fullmatch(key))}
    if not found:
        return None
    rank = next(iter(found.values())).shape[0]
    parts = {
        key: tensor for key, tensor in state.items() if coverage.EXPERTS.search(key) and not tensor.is_meta
    }
    if damaged := [key for key, tensor in parts.items() if not tensor.float().isfinite().all()]:
        raise EditkitError(f"{damaged[0]} holds values that are not finite; the file is damaged.")
    key = next((sign.routing for sign in signatures.values() if sign.routing in about), None)
    try:
        told = {} if key is None else json.loads(about[key])
        routing: dict[str, Any] = {"top_k": 1, "router": "released"} | told
        return ExpertsSummary(
            modules=len({match[1] for match in found}),
            number=len({match[2] for match in found}),
            rank=rank,
            top_k=int(routing["top_k"]),
            router=str(routing["router"]),
            alpha=float(routing.get("alpha") or rank),
        )
    except (ValueError, TypeError) as error:
        raise EditkitError(f"The metadata {key} cannot be read; remove or correct them.") from error


def _check_experts(state: Mapping[str, Tensor]) -> None:
    """Check that each module has both matrices of as many experts as its router chooses from."""
    held: dict[str, set[str]] = {}
    for key in filter(coverage.EXPERTS.search, state):
        stem, _, end = key.partition(".lora_")
        held.setdefault(stem, set()).add(end)
    for stem, ends in held.items():
        route = state.get(f"{stem}.lora_route.weight", ())
        matrices = {f"{letter}.expert_{n}.weight" for letter in "AB" for n in range(len(route))}
        if not matrices or ends != matrices | {"route.weight"}:
            raise EditkitError(f"{stem} has another number of experts than its router; give the whole file.")
        if len({min(state[f"{stem}.lora_{end}"].shape) for end in matrices}) > 1:
            raise EditkitError(f"The experts of {stem} differ in rank; experts must have the same rank.")


def _method(
    about: Mapping[str, str], routed: bool, takes: int | None, signatures: Mapping[str, AdapterSignature]
) -> str:
    """Return the method that a file is for, by the most reliable sign in it."""
    named = " ".join(
        about.get(key, "") for key in ("modelspec.architecture", "ss_base_model_version")
    ).lower()
    found = (
        [name for name, sign in signatures.items() if sign.routing and (routed or sign.routing in about)]
        or [name for name, sign in signatures.items() if takes in sign.channels]
        or [name for name, sign in signatures.items() if sign.architecture and sign.architecture in named]
    )
    # A method whose files fit fewer kinds of transformers is more likely.
    return " or ".join(sorted(found, key=lambda name: len(signatures[name].channels))) or "unknown"


def _width(shapes: Mapping[str, tuple[int, int]]) -> int:
    """Return the width of the transformer that all updates agree on, by numbers of outputs and inputs."""
    widths = {}
    for name, (outputs, inputs) in shapes.items():
        out = name.endswith(OUTPUTS) or (name.startswith("single_") and name.endswith(".proj_out"))
        widths[outputs if out else inputs] = name
    if len(widths) > 1:
        (one, first), (other, second), *_ = widths.items()
        raise EditkitError(
            f"{first} is for a transformer {one} wide, {second} for one {other} wide; give an undamaged file."
        )
    return next(iter(widths))


def _possible(names: Collection[str], width: int) -> int:
    """Count the linear modules of the transformer."""
    doubles, singles = FULL[1:]
    if width != FULL[0]:
        doubles = fused_modules.count_blocks(name for name in names if name.startswith("transformer_blocks."))
        singles = fused_modules.count_blocks(
            name for name in names if name.startswith("single_transformer_blocks.")
        )
    return sum(len(parts) for parts in fused_modules.module_map(doubles, singles).values())
