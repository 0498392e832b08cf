"""List the published weights on this machine, and what they need in memory."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backbones import hub, hub_cache, low_memory
from backbones.low_memory import BF16, LARGEST_BLOCK, OUTSIDE_BLOCKS, PRESETS, Preset, WeightBytes
from backbones.quantized_sizes import FOUR_BITS, T5_PLAIN
from backbones.specs import FAMILIES, PARAMETERS
from editkit import config
from editkit.backbone import CachedRole, LoadingChoice, MemoryFit, Role, WeightFile

ROOM = low_memory.ROOM
FULL = 4
"""Bytes of a weight in float32."""
Q4, Q8 = 18 / 32, 34 / 32
"""Bytes of a weight in GGUF's Q4_0 (or Q4_K_S) and Q8_0: 32 weights share a scale of 2 bytes."""


def cached_roles() -> list[CachedRole]:
    """List every role of every family, with how much of it is in the Hub's cache."""
    sizes = _cached()
    return [
        _cached_role(family.name, name, role, sizes)
        for family in FAMILIES.values()
        for name, role in family.roles.items()
    ]


def token() -> bool:
    """Whether this machine has a token of the Hub, which gated weights need."""
    from huggingface_hub import get_token

    return get_token() is not None


def loading_choices(on_cpu: bool) -> list[LoadingChoice]:
    """List ways to load one role of FLUX.1, the simplest first, in the default precision of the device."""
    transformer, t5 = PARAMETERS["transformer"], PARAMETERS["text_encoder_2"]
    rest = PARAMETERS["vae"] + PARAMETERS["text_encoder"]
    whole = transformer + t5 + rest
    half, others = BF16 * whole, BF16 * (t5 + rest)
    files = Q4 * transformer + Q8 * (t5 - T5_PLAIN) + BF16 * (T5_PLAIN + rest)
    named = "--load transformer=Q4.gguf --load text_encoder_2=Q8.gguf"
    if on_cpu:
        return [
            LoadingChoice(settings="", device=FULL * whole),
            LoadingChoice(settings="--dtype bfloat16", device=half),
            LoadingChoice(settings=f"--dtype bfloat16 {named}", device=files, needs="gguf"),
        ]
    four_bits, visiting = "--load quantization=... (4 bits", BF16 * (LARGEST_BLOCK + OUTSIDE_BLOCKS)
    resting = Q4 * transformer + BF16 * PARAMETERS["vae"]  # while the encoders wait in main memory
    small = FOUR_BITS * (transformer + t5 - T5_PLAIN) + BF16 * (T5_PLAIN + rest)
    return [
        LoadingChoice(settings="", device=half),
        *(_preset_choice(name, PRESETS[name]) for name in reversed(list(PRESETS))),
        LoadingChoice(
            settings=f"{four_bits})", device=FOUR_BITS * transformer + others, needs="bitsandbytes"
        ),
        LoadingChoice(settings=f"{four_bits}, T5 too)", device=small, needs="bitsandbytes"),
        LoadingChoice(settings=named, device=files, needs="gguf"),
        LoadingChoice(
            settings=f"{named} --low-memory auto", device=resting, main=files - resting, needs="gguf"
        ),
        LoadingChoice(settings="--load offload=block", device=others + visiting, main=BF16 * transformer),
    ]


def memory_fits(memory: float, loading: Mapping[str, Any]) -> list[MemoryFit]:
    """List what every role of every family needs on a device of this many bytes.

    Args:
        memory: bytes of the device.
        loading: loading options: `quantization`, and weight files, which count with what they take once they
            are loaded; all other models are in bfloat16.

    Raises:
        EditkitError: where an option is refused, or a file is missing, damaged or of another kind.
    """
    from backbones import weight_sizes  # imports torch
    from backbones.load_options import LoadOptions  # imports diffusers

    options = config.build(LoadOptions, loading)
    return [
        _memory_fit(family.name, name, weight_sizes.role_bytes(name, role, options), memory)
        for family in FAMILIES.values()
        for name, role in family.roles.items()
    ]


def weight_file(path: Path) -> WeightFile | None:
    """Tell which models a file holds; None where there is none of FLUX.

    Raises:
        EditkitError: where the file is damaged or of another kind.
    """
    from backbones import weight_files  # imports torch

    return weight_files.recognise(path)


def best_preset(memory: float) -> str | None:
    """Return the preset for several roles in one process; '' where none is needed, None where none helps."""
    return "" if low_memory.fits_without_preset(memory) else low_memory.largest_preset(memory)


def _memory_fit(family: str, role: str, sizes: WeightBytes, memory: float) -> MemoryFit:
    """Make the record of one role on a device of `memory` bytes."""
    name, preset = "" if sizes.whole + ROOM <= memory else low_memory.largest_preset(memory), None
    if name:
        preset = PRESETS[name]
    elif name is None and (preset := low_memory.preset_below_all(memory, sizes)):
        name = low_memory.AUTO
    return MemoryFit(
        family=family,
        role=role,
        transformer=sizes.transformer,
        encoders=sizes.encoders,
        vae=sizes.vae,
        preset=name,
        peak=low_memory.peak_bytes(preset, sizes) if preset else sizes.whole,
        travels=sizes.transformer if preset and low_memory.visits_in_groups(preset, sizes) else 0.0,
    )


def _preset_choice(name: str, preset: Preset) -> LoadingChoice:
    """Describe loading with a preset."""
    sizes = low_memory.published_weights()
    waiting = preset.transformers - (sizes.transformer <= preset.weights)
    encoders = sizes.encoders if preset.offload_encoders else 0
    main = waiting * sizes.transformer + encoders
    return LoadingChoice(settings=f"--low-memory {name}", device=preset.weights, main=main)


def _cached_role(family: str, name: str, role: Role, sizes: Mapping[str, int]) -> CachedRole:
    """Make the record of one role: how much of its transformer and of the shared components is cached."""
    state, missing = "embedded", list[str]()
    if not Path(role.source).is_absolute():
        needed = list(_needed(role))
        missing = [
            f"{repository} {pattern}"
            for repository, folder, patterns in needed
            for pattern in (["as a whole"] if folder is None else hub_cache.missing(folder, patterns))
        ]
        here = any(folder is not None for _, folder, _ in needed)
        state = ("partly" if here else "absent") if missing else "complete"
    return CachedRole(
        family=family,
        role=name,
        source=role.file or role.source,
        state=state,
        size=sum(sizes.get(repository, 0) for repository in _repositories(role)),
        whole=role.disk_gb * 1e9,
        missing=tuple(missing) if state == "partly" else (),
    )


def _needed(role: Role) -> Iterator[tuple[str, Path | None, list[str]]]:
    """Yield a role's repositories, their cached folders (None if absent), and patterns of needed files."""
    shared = ["vae", "text_encoder", "text_encoder_2"]
    if role.file is None:
        patterns = hub.file_patterns([*shared, "transformer"], *hub.TOKENIZERS)
        yield role.source, hub_cache.snapshot(role.source), patterns
    else:
        repository, _, name = role.file.rpartition("/")
        patterns = hub.file_patterns(shared, *hub.TOKENIZERS)
        yield role.source, hub_cache.snapshot(role.source), patterns
        yield repository, hub_cache.snapshot(repository), [name]


def _repositories(role: Role) -> set[str]:
    """Return the repositories that hold a role."""
    return {role.source} | ({role.file.rpartition("/")[0]} if role.file else set())


def _cached() -> dict[str, int]:
    """Return the bytes of each repository in the Hub's cache."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return {found.repo_id: found.size_on_disk for found in scan_cache_dir(constants.HF_HUB_CACHE).repos}
    except CacheNotFound:
        return {}
