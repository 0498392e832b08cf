"""Write LoRA files of FLUX: convert the dialect, reduce the rank, merge several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from backbones.lora import dialect_reader, dialect_writer, fused_modules, keys, low_rank, summary
from backbones.lora.low_rank import LowRankUpdate
from editkit import adapters, atomic_files
from editkit.errors import EditkitError


def convert(
    source: Path, destination: Path, to: str, rank: int | None = None
) -> tuple[tuple[str, ...], float]:
    """Write a LoRA file in another dialect, or with a lower rank.

    Args:
        source: a .safetensors file, or a folder with one.
        destination: a .safetensors file; it is replaced where it exists.
        to: one of `keys.DIALECTS`.
        rank: largest rank; a module above it, as the source names and fuses modules, gets the nearest update
            of that rank.

    Returns:
        Keys of text encoders' LoRAs, which are left out, and the relative error of a lower rank: the root of
            the summed squared differences of updates, divided by the root of the summed squared updates.

    Raises:
        EditkitError: where the source is no plain LoRA of FLUX, the dialect is unknown, or the destination
            cannot be written.
    """
    check_destination(destination)
    _check_rank(rank)
    state, about = adapters.read_adapter(source)
    try:
        found = _read_plain(state, about)
        updates = _reduce_ranks(found.updates, rank)
        converted, metadata = dialect_writer.to_dialect(updates, to)
    except EditkitError as error:
        raise EditkitError(f"{adapters.file(source)} cannot be converted: {error}") from error
    write_file(converted, metadata, destination)
    return found.unplaced, _relative_error(found.updates, updates)


def merge(
    sources: Sequence[tuple[Path, float]], destination: Path, rank: int | None = None
) -> tuple[tuple[str, ...], float]:
    """Write the sum of several LoRAs as one file in diffusers' dialect.

    Args:
        sources: .safetensors files, or folders with one, each with the factor that it is multiplied by.
        destination: a .safetensors file; it is replaced where it exists.
        rank: largest rank; where None, the ranks of a module add up.

    Returns:
        The same as `convert`.

    Raises:
        EditkitError: where a source is no plain LoRA of FLUX or does not fit the others, or the destination
            cannot be written.
    """
    check_destination(destination)
    _check_rank(rank)
    terms: dict[str, list[LowRankUpdate]] = {}
    left: tuple[str, ...] = ()
    for source, scale in sources:
        state, about = adapters.read_adapter(source)
        try:
            found = _read_plain(state, about)
            for name, update in fused_modules.split(found.updates).items():
                terms.setdefault(name, []).append(replace(update, alpha=update.alpha * scale))
                if len({(each.up_Or.shape[0], each.down_rI.shape[1]) for each in terms[name]}) > 1:
                    raise EditkitError(f"{name} has another size in the files before it.")
        except EditkitError as error:
            raise EditkitError(f"{adapters.file(source)} cannot be merged: {error}") from error
        left += found.unplaced
    updates = {name: _sum(updates) for name, updates in terms.items()}
    merged = _reduce_ranks(updates, rank)
    write_file(*dialect_writer.to_dialect(merged, "diffusers"), destination)
    return left, _relative_error(updates, merged)


def plain_lora(
    state: Mapping[str, Tensor], collapsed: Mapping[str, Tensor], about: Mapping[str, str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and metadata of a plain LoRA for a LoRA-MoE whose experts were collapsed.

    Args:
        state: tensors of the LoRA-MoE.
        collapsed: tensors of the plain LoRA; those of collapsed experts have a scale of 1.
        about: metadata of the LoRA-MoE's file.

    Raises:
        EditkitError: where the tensors are no plain LoRA.
    """
    kept = {key: tensor for key, tensor in collapsed.items() if key in state}
    fresh = {key: tensor for key, tensor in collapsed.items() if key not in state}
    updates = dialect_reader.read_in_diffusers_names(kept, about).updates if kept else {}
    return dialect_writer.to_dialect(
        updates | dialect_reader.read_in_diffusers_names(fresh).updates, "diffusers"
    )


def check_destination(destination: Path) -> None:
    """Check a destination before the work starts.

    Raises:
        EditkitError: where it is no .safetensors file in a folder that exists.
    """
    if destination.suffix != ".safetensors":
        raise EditkitError(f"{destination} does not end in .safetensors; give such a file to write.")
    if destination.is_dir():
        raise EditkitError(f"{destination} is a folder; give a .safetensors file to write.")
    if not destination.parent.is_dir():
        raise EditkitError(f"The folder {destination.parent} does not exist; make it first.")


def write_file(state: Mapping[str, Tensor], about: Mapping[str, str], destination: Path) -> None:
    """Write a file, whole or not at all.

    Raises:
        EditkitError: where the file cannot be written.
    """
    check_destination(destination)
    tensors = {key: tensor.contiguous() for key, tensor in state.items()}
    try:
        with atomic_files.beside(destination) as partial:
            save_file(tensors, partial, {"format": "pt", **about})
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EditkitError(f"{destination} cannot be written ({reason}); give another place.") from error


def _check_rank(rank: int | None) -> None:
    if rank is not None and rank < 1:
        raise EditkitError(f"rank={rank} is not allowed; it must be at least 1.")


def _read_plain(state: Mapping[str, Tensor], about: Mapping[str, str]) -> dialect_reader.Lora:
    """Read a plain LoRA; besides it the file may only hold text encoders' LoRAs."""
    found = dialect_reader.read_lora(state, about)
    if lost := [key for key in (*found.beside, *found.unplaced) if not key.startswith(keys.TEXT_ENCODERS)]:
        routed = summary.has_experts(state)
        way = "run `editkit lora collapse` first" if routed else "give a plain LoRA"
        raise EditkitError(f"{len(lost)} tensors cannot be converted, such as {lost[0]}; {way}.")
    return found


def _reduce_ranks(updates: Mapping[str, LowRankUpdate], rank: int | None) -> Mapping[str, LowRankUpdate]:
    """Reduce each update to the rank; None leaves them as they are."""
    return (
        updates
        if rank is None
        else {name: low_rank.reduce_rank(each, rank) for name, each in updates.items()}
    )


def _sum(updates: Sequence[LowRankUpdate]) -> LowRankUpdate:
    """Add updates up: their ranks stand side by side, and their scales are folded in."""
    folded = [update.folded() for update in updates]
    down_rI = torch.cat([update.down_rI for update in folded])
    up_Or = torch.cat([update.up_Or for update in folded], dim=1)
    return LowRankUpdate(down_rI=down_rI, up_Or=up_Or, alpha=float(len(down_rI)))


def _relative_error(before: Mapping[str, LowRankUpdate], after: Mapping[str, LowRankUpdate]) -> float:
    """Return the size of the differences between updates, relative to the size of the old ones."""
    lost = 0.0
    for name, old in before.items():
        if (new := after[name]) is old:
            continue
        up_Or = torch.cat((old.up_Or * old.scale, -new.up_Or * new.scale), dim=1)
        lost += low_rank.squared_norm(torch.cat((old.down_rI, new.down_rI)), up_Or)
    whole = sum(low_rank.squared_norm(old.down_rI, old.up_Or * old.scale) for old in before.values())
    return (lost / whole) ** 0.5 if whole else 0.0
