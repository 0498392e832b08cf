"""What is in a LoRA file of FLUX."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from backbones.lora import coverage, dialects, fused_modules
from backbones.lora.fused_modules import Update
from editkit.errors import EditkitError

FULL = (3072, 19, 38)
"""Width and blocks of every FLUX published."""
METHODS = {64: "kontext", 384: "icedit or aceplus", 448: "aceplus"}
"""By the tokens that x_embedder takes; 64 is FLUX.1-dev's width as well."""
EXPERT = re.compile(r"(?:transformer\.)?(.+)\.lora_A\.expert_(\d+)\.weight")
MOE = "icedit_moe"
"""Where the metadata keep the routing."""
OUTPUTS = ("context_embedder", "linear_1", "linear_2", "ff.net.2", "ff_context.net.2", "x_embedder")
"""Ends of modules whose outputs are as wide as the transformer; all others have such inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Experts:
    """The LoRA-MoE in a file.

    Attributes:
        modules: that carry experts.
        number: of experts on each.
        rank: of an expert.
        top_k: experts that a token uses.
        router: `released` or `paper`.
        alpha: of an expert.
    """

    modules: int
    number: int
    rank: int
    top_k: int
    router: str
    alpha: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What is in a LoRA file; modules are diffusers' throughout.

    Attributes:
        dialect: one of `lora.DIALECTS`.
        method: kontext, icedit or aceplus, as the metadata, experts or x_embedder tell; else unknown.
        width: of the transformer.
        x_embedder: channels of the tokens that it takes; None where the file leaves it alone.
        ranks: modules by rank.
        alphas: modules by alpha.
        kinds: modules by kind, blocks taken together.
        modules: that a plain LoRA adapts.
        possible: linear modules of the transformer, of FLUX's 19 and 38 blocks where it is as wide as FLUX,
            else of as many blocks as the file knows.
        experts: the LoRA-MoE; None where there is none.
        unplaced: keys that are left unloaded once the file is in diffusers' layout.
    """

    dialect: str
    method: str
    width: int
    x_embedder: int | None
    ranks: dict[int, int]
    alphas: dict[float, int]
    kinds: dict[str, int]
    modules: int
    possible: int
    experts: Experts | None
    unplaced: tuple[str, ...]


def inspect(state: Mapping[str, Tensor], about: Mapping[str, str]) -> Summary:
    """What a file's tensors and metadata tell.

    Raises:
        EditkitError: where there is no sound LoRA of FLUX's transformer among them.
    """
    routed = experts(state, about)
    _check_experts(state)
    # A LoRA-MoE can do without a plain LoRA, but has a first expert on each of its modules.
    first = {key.replace(".expert_0.", "."): tensor for key, tensor in state.items() if ".expert_0." in key}
    both = dialects.to_diffusers({**state, **first}, about)
    updates = {name: update for name, update in both.updates.items() if not _is_expert(name, state)}
    width = _width(both.updates)
    embedder = updates.get("x_embedder")
    takes = embedder.down_rI.shape[1] if embedder else None
    return Summary(
        dialect=both.dialect,
        method=_method(about, routed is not None, takes),
        width=width,
        x_embedder=takes,
        ranks=dict(Counter(update.rank for update in updates.values()).most_common()),
        alphas=dict(Counter(update.alpha for update in updates.values()).most_common()),
        kinds=dict(Counter(re.sub(r"\.\d+\.", ".*.", name, count=1) for name in updates)),
        modules=len(updates),
        possible=_possible(both.updates, width),
        experts=routed,
        unplaced=both.unplaced,
    )


def _is_expert(module: str, state: Mapping[str, Tensor]) -> bool:
    return any(f"{prefix}{module}.lora_A.expert_0.weight" in state for prefix in (dialects.PREFIX, ""))


def experts(state: Mapping[str, Tensor], about: Mapping[str, str]) -> Experts | None:
    """The LoRA-MoE among tensors and metadata; None where there is none.

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
    try:
        routing: dict[str, Any] = {"top_k": 1, "router": "released"} | json.loads(about.get(MOE, "{}"))
        return Experts(
            modules=len({match[1] for match in found}),
            number=len({match[2] for match in found}),
            rank=rank,
            top_k=int(routing["top_k"]),
            router=str(routing["router"]),
            alpha=float(routing.get("alpha") or rank),
        )
    except (ValueError, TypeError) as error:
        raise EditkitError(f"The metadata {MOE} cannot be read; remove them or mend them.") from error


def _check_experts(state: Mapping[str, Tensor]) -> None:
    """Refuse modules whose experts, both matrices of each, and router do not go together."""
    held: dict[str, set[str]] = {}
    for key in filter(coverage.EXPERTS.search, state):
        stem, _, end = key.partition(".lora_")
        held.setdefault(stem, set()).add(end)
    for stem, ends in held.items():
        route = state.get(f"{stem}.lora_route.weight", ())
        matrices = {f"{letter}.expert_{n}.weight" for letter in "AB" for n in range(len(route))}
        if not matrices or ends != matrices | {"route.weight"}:
            raise EditkitError(f"{stem} has not as many experts as its router; give the whole file.")
        if len({min(state[f"{stem}.lora_{end}"].shape) for end in matrices}) > 1:
            raise EditkitError(f"The experts of {stem} differ in rank; only experts of one rank are known.")


def _method(about: Mapping[str, str], routed: bool, takes: int | None) -> str:
    if routed or MOE in about:
        return "icedit"
    if takes in METHODS:
        return METHODS[takes]
    named = " ".join(
        about.get(key, "") for key in ("modelspec.architecture", "ss_base_model_version")
    ).lower()
    return "kontext" if "kontext" in named else "unknown"


def _width(updates: Mapping[str, Update]) -> int:
    widths = {}
    for name, update in updates.items():
        out = name.endswith(OUTPUTS) or (name.startswith("single_") and name.endswith(".proj_out"))
        widths[update.up_Or.shape[0] if out else update.down_rI.shape[1]] = name
    if len(widths) > 1:
        (one, first), (other, second), *_ = widths.items()
        raise EditkitError(
            f"{first} is for a transformer {one} wide, {second} for one {other} wide; give a sound file."
        )
    return next(iter(widths))


def _possible(updates: Mapping[str, Update], width: int) -> int:
    doubles, singles = FULL[1:]
    if width != FULL[0]:
        doubles = fused_modules.blocks(name for name in updates if name.startswith("transformer_blocks."))
        singles = fused_modules.blocks(
            name for name in updates if name.startswith("single_transformer_blocks.")
        )
    return sum(len(parts) for parts in fused_modules.modules(doubles, singles).values())
