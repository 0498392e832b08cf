"""LoRA files of FLUX: what is in one, and the same in another dialect."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from backbones import fusing, lora, lora_fit
from backbones.fusing import Update
from editkit import adapters, writing
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
    experts = _experts(state, about)
    _check_experts(state)
    # A LoRA-MoE can do without a plain LoRA, but has a first expert on each of its modules.
    first = {key.replace(".expert_0.", "."): tensor for key, tensor in state.items() if ".expert_0." in key}
    both = lora.to_diffusers({**state, **first}, about)
    updates = {name: update for name, update in both.updates.items() if not _is_expert(name, state)}
    width = _width(both.updates)
    embedder = updates.get("x_embedder")
    takes = embedder.down_rI.shape[1] if embedder else None
    return Summary(
        dialect=both.dialect,
        method=_method(about, experts is not None, takes),
        width=width,
        x_embedder=takes,
        ranks=dict(Counter(update.rank for update in updates.values()).most_common()),
        alphas=dict(Counter(update.alpha for update in updates.values()).most_common()),
        kinds=dict(Counter(re.sub(r"\.\d+\.", ".*.", name, count=1) for name in updates)),
        modules=len(updates),
        possible=_possible(both.updates, width),
        experts=experts,
        unplaced=both.unplaced,
    )


def convert(
    source: Path, destination: Path, to: str, rank: int | None = None
) -> tuple[tuple[str, ...], float]:
    """Write a LoRA file in another dialect, or of a lower rank.

    Args:
        source: a .safetensors file, or a folder with one.
        destination: a .safetensors file; replaced where it exists.
        to: one of `lora.DIALECTS`.
        rank: the highest; modules above it, as the source names and fuses them, get the nearest update of it.

    Returns:
        Keys of text encoders' LoRAs, which are not in the new file, and what the lower rank loses: the
        distance from old to new updates relative to the old ones' size, both root sums over modules.

    Raises:
        EditkitError: where the source is no plain LoRA of FLUX, the dialect is unknown, or the destination
            cannot be written.
    """
    check(destination)
    if rank is not None and rank < 1:
        raise EditkitError(f"rank={rank} is not allowed; it must be at least 1.")
    state, about = adapters.read(source)
    try:
        found = lora.read(state, about)
        if lost := [key for key in found.unplaced if not key.startswith(lora.TEXT_ENCODERS)]:
            way = (
                "run `editkit lora collapse` first" if _experts(state, about) else "only plain LoRAs convert"
            )
            raise EditkitError(f"{len(lost)} tensors have no place elsewhere, such as {lost[0]}; {way}.")
        updates = {
            name: update if rank is None else fusing.cut(update, rank)
            for name, update in found.updates.items()
        }
        converted, metadata = lora.from_diffusers(updates, to)
    except EditkitError as error:
        raise EditkitError(f"{adapters.file(source)} cannot be converted: {error}") from error
    write(converted, metadata, destination)
    return found.unplaced, _lost(found.updates, updates)


def plain(
    state: Mapping[str, Tensor], collapsed: Mapping[str, Tensor], about: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A LoRA-MoE whose experts collapsed, which gives their modules a scale of 1, as a plain LoRA's file.

    Raises:
        EditkitError: where the tensors are no sound LoRA.
    """
    kept = {key: tensor for key, tensor in collapsed.items() if key in state}
    fresh = {key: tensor for key, tensor in collapsed.items() if key not in state}
    updates = lora.to_diffusers(kept, about).updates if kept else {}
    return lora.from_diffusers(updates | lora.to_diffusers(fresh).updates, "diffusers")


def check(destination: Path) -> None:
    """Refuse a destination before the work.

    Raises:
        EditkitError: where it is no .safetensors file in a folder that exists.
    """
    if destination.suffix != ".safetensors":
        raise EditkitError(f"{destination} does not end in .safetensors; give such a file to write.")
    if destination.is_dir():
        raise EditkitError(f"{destination} is a folder; give a .safetensors file to write.")
    if not destination.parent.is_dir():
        raise EditkitError(f"The folder {destination.parent} does not exist; make it first.")


def write(state: Mapping[str, Tensor], about: Mapping[str, str], destination: Path) -> None:
    """Write a file, whole or not at all.

    Raises:
        EditkitError: where the disk refuses.
    """
    check(destination)
    tensors = {key: tensor.contiguous() for key, tensor in state.items()}
    try:
        with writing.beside(destination) as partial:
            save_file(tensors, partial, {"format": "pt", **about})
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EditkitError(f"{destination} cannot be written ({reason}); give another place.") from error


def _lost(before: Mapping[str, Update], after: Mapping[str, Update]) -> float:
    lost = 0.0
    for name, old in before.items():
        if (new := after[name]) is old:
            continue
        up_Or = torch.cat((old.up_Or * old.scale, -new.up_Or * new.scale), dim=1)
        lost += fusing.size(torch.cat((old.down_rI, new.down_rI)), up_Or)
    whole = sum(fusing.size(old.down_rI, old.up_Or * old.scale) for old in before.values())
    return (lost / whole) ** 0.5 if whole else 0.0


def _is_expert(module: str, state: Mapping[str, Tensor]) -> bool:
    return any(f"{prefix}{module}.lora_A.expert_0.weight" in state for prefix in (lora.PREFIX, ""))


def _experts(state: Mapping[str, Tensor], about: Mapping[str, str]) -> Experts | None:
    found = {match: tensor for key, tensor in state.items() if (match := EXPERT.fullmatch(key))}
    if not found:
        return None
    rank = next(iter(found.values())).shape[0]
    parts = {
        key: tensor for key, tensor in state.items() if lora_fit.EXPERTS.search(key) and not tensor.is_meta
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
    for key in filter(lora_fit.EXPERTS.search, state):
        stem, _, end = key.partition(".lora_")
        held.setdefault(stem, set()).add(end)
    for stem, ends in held.items():
        route = state.get(f"{stem}.lora_route.weight", ())
        matrices = {f"{letter}.expert_{n}.weight" for letter in "AB" for n in range(len(route))}
        if not matrices or ends != matrices | {"route.weight"}:
            raise EditkitError(f"{stem} has not as many experts as its router; give the whole file.")
        if len({min(state[f"{stem}.lora_{end}"].shape) for end in matrices}) > 1:
            raise EditkitError(f"The experts of {stem} differ in rank; only experts of one rank are known.")


def _method(about: Mapping[str, str], experts: bool, takes: int | None) -> str:
    if experts or MOE in about:
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
        doubles = fusing.blocks(name for name in updates if name.startswith("transformer_blocks."))
        singles = fusing.blocks(name for name in updates if name.startswith("single_transformer_blocks."))
    return sum(len(parts) for parts in fusing.modules(doubles, singles).values())
