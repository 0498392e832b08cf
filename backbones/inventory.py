"""List the published weights on this machine, and what they need in memory."""

from collections.abc import Iterator
from pathlib import Path

from backbones import hub, low_memory
from backbones.low_memory import BF16, LARGEST_BLOCK, OUTSIDE_BLOCKS, PRESETS, Preset, WeightBytes
from backbones.specs import FAMILIES, PARAMETERS
from editkit.backbone import CachedRole, LoadingChoice, MemoryFit, Role

ROOM = low_memory.ROOM
FULL = 4
"""Bytes of a weight in float32."""
FOUR_BITS = 0.5 + 4 / 64
"""Bytes of a weight in NF4: 64 weights share a scale of 4 bytes."""
Q4, Q8 = 18 / 32, 34 / 32
"""Bytes of a weight in GGUF's Q4_0 (or Q4_K_S) and Q8_0: 32 weights share a scale of 2 bytes."""
T5_PLAIN = 24 * 10240 * 4096 + 32128 * 4096
"""Parameters of T5 that stay in bfloat16: the last layer of each block, and the embedding."""


def cached_roles() -> list[CachedRole]:
    """List every role of every family, with how much of it is in the Hub's cache."""
    sizes = _cached()
    return [
        CachedRole(
            family=family.name,
            role=name,
            source=role.file or role.source,
            state=_state(role),
            size=sum(sizes.get(repository, 0) for repository in _repositories(role)),
            whole=role.disk_gb * 1e9,
        )
        for family in FAMILIES.values()
        for name, role in family.roles.items()
    ]


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
    four_bits, visiting = "--load quantization=... (4 bits)", BF16 * (LARGEST_BLOCK + OUTSIDE_BLOCKS)
    return [
        LoadingChoice(settings="", device=half),
        *(_preset_choice(name, PRESETS[name]) for name in reversed(list(PRESETS))),
        LoadingChoice(settings=four_bits, device=FOUR_BITS * transformer + others, needs="bitsandbytes"),
        LoadingChoice(settings=named, device=files, needs="gguf"),
        LoadingChoice(settings="--load offload=block", device=others + visiting, main=BF16 * transformer),
    ]


def memory_fits(memory: float) -> list[MemoryFit]:
    """List what every role of every family needs in bf16 on a device of this many bytes."""
    return [
        _memory_fit(family.name, name, _sizes(role), memory)
        for family in FAMILIES.values()
        for name, role in family.roles.items()
    ]


def best_preset(memory: float) -> str | None:
    """Return the preset for several roles in one process; '' where none is needed, None where none helps."""
    return "" if low_memory.fits_without_preset(memory) else low_memory.largest_preset(memory)


def _memory_fit(family: str, role: str, sizes: WeightBytes, memory: float) -> MemoryFit:
    """Make the record of one role on a device of `memory` bytes."""
    name = "" if sizes.whole + ROOM <= memory else low_memory.largest_preset(memory)
    return MemoryFit(
        family=family,
        role=role,
        transformer=sizes.transformer,
        encoders=sizes.encoders,
        vae=sizes.vae,
        preset=name,
        peak=low_memory.peak_bytes(PRESETS[name], sizes) if name else sizes.whole,
    )


def _sizes(role: Role) -> WeightBytes:
    """Return the bytes of a role's weights, from its files where it is embedded."""
    folder = Path(role.source)
    if not folder.is_absolute():
        return low_memory.published_weights()
    parts = ("transformer", "text_encoder", "text_encoder_2", "vae")
    transformer, clip, t5, vae = (
        sum(file.stat().st_size for file in (folder / part).glob("*.safetensors")) for part in parts
    )
    # Far smaller than any preset's limit, so it is never offloaded block by block.
    return WeightBytes(transformer=transformer, block=transformer, outside=0, encoders=clip + t5, vae=vae)


def _preset_choice(name: str, preset: Preset) -> LoadingChoice:
    """Describe loading with a preset."""
    sizes = low_memory.published_weights()
    waiting = preset.transformers - (sizes.transformer <= preset.weights)
    encoders = sizes.encoders if preset.offload_encoders else 0
    main = waiting * sizes.transformer + encoders
    return LoadingChoice(settings=f"--low-memory {name}", device=preset.weights, main=main)


def _state(role: Role) -> str:
    """Return `embedded`, `complete`, `partly` or `absent` for a role's transformer and shared components."""
    if Path(role.source).is_absolute():
        return "embedded"
    needed = list(_needed(role))
    found = [folder is not None and hub.is_complete(folder, patterns) for folder, patterns in needed]
    if all(found):
        return "complete"
    return "partly" if any(folder is not None for folder, _ in needed) else "absent"


def _needed(role: Role) -> Iterator[tuple[Path | None, list[str]]]:
    """Yield a role's folders in the Hub's cache, None where absent, and the patterns of needed files."""
    shared = ["vae", "text_encoder", "text_encoder_2"]
    if role.file is None:
        yield _snapshot(role.source), hub.file_patterns([*shared, "transformer"], *hub.TOKENIZERS)
    else:
        repository, _, name = role.file.rpartition("/")
        yield _snapshot(role.source), hub.file_patterns(shared, *hub.TOKENIZERS)
        yield _snapshot(repository), [name]


def _snapshot(repository: str) -> Path | None:
    """Return the folder of a repository in the Hub's cache, or None."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except OSError:
        return None


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
