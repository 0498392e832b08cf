"""Which published weights are on this machine, and what they need in memory, by ways to load them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backbones import hub, hub_cache, low_memory
from backbones.low_memory import HALF, LARGEST_BLOCK, OUTSIDE_BLOCKS, PRESETS, Preset, Sizes
from backbones.quantized_sizes import CLIP_PLAIN, FOUR_BITS, T5_PLAIN, bytes_of_a_weight
from backbones.specs import FAMILIES, PARAMETERS
from editkit.backbone import Fit, Held, Role, Way

ROOM = low_memory.ROOM
FULL = 4
Q4, Q8 = 18 / 32, 34 / 32
"""Bytes of a weight in GGUF's Q4_0 and Q8_0, or Q4_K_S and others of their size: 32 share a scale."""


def held() -> list[Held]:
    """Every role of every family, and how much of it is here."""
    sizes = _cached()
    return [
        _held(family.name, name, role, sizes)
        for family in FAMILIES.values()
        for name, role in family.roles.items()
    ]


def token() -> bool:
    """Whether this machine has a token of the Hub, which gated weights need."""
    from huggingface_hub import get_token

    return get_token() is not None


def ways(on_cpu: bool) -> list[Way]:
    """Ways to load one role of FLUX.1, from the plainest, in the precision that a device has by default."""
    transformer, t5 = PARAMETERS["transformer"], PARAMETERS["text_encoder_2"]
    rest = PARAMETERS["vae"] + PARAMETERS["text_encoder"]
    whole = transformer + t5 + rest
    half, others = HALF * whole, HALF * (t5 + rest)
    files = Q4 * transformer + Q8 * (t5 - T5_PLAIN) + HALF * (T5_PLAIN + rest)
    named = "--load transformer=Q4.gguf --load text_encoder_2=Q8.gguf"
    if on_cpu:
        return [
            Way(settings="", device=FULL * whole),
            Way(settings="--dtype bfloat16", device=half),
            Way(settings=f"--dtype bfloat16 {named}", device=files, needs="gguf"),
        ]
    four_bits, visiting = "--load quantization=... (4 bits", HALF * (LARGEST_BLOCK + OUTSIDE_BLOCKS)
    small = FOUR_BITS * (transformer + t5 - T5_PLAIN) + HALF * (T5_PLAIN + rest)
    return [
        Way(settings="", device=half),
        *(_preset_way(name, PRESETS[name]) for name in reversed(list(PRESETS))),
        Way(settings=f"{four_bits})", device=FOUR_BITS * transformer + others, needs="bitsandbytes"),
        Way(settings=f"{four_bits}, T5 too)", device=small, needs="bitsandbytes"),
        Way(settings=named, device=files, needs="gguf"),
        Way(settings="--load offload=block", device=others + visiting, main=HALF * transformer),
    ]


def fits(memory: float, quantization: Mapping[str, Any]) -> list[Fit]:
    """Every role of every family on a device of this many bytes, in the precision of GPUs."""
    return [
        _fit(family.name, name, _sizes(role, quantization), memory)
        for family in FAMILIES.values()
        for name, role in family.roles.items()
    ]


def preset(memory: float) -> str | None:
    """The preset for several roles in one process; empty where none is needed, None where none helps."""
    return "" if low_memory.takes_all(memory) else low_memory.fitting(memory)


def _fit(family: str, role: str, sizes: Sizes, memory: float) -> Fit:
    name = "" if sizes.whole + ROOM <= memory else low_memory.fitting(memory)
    return Fit(
        family=family,
        role=role,
        transformer=sizes.transformer,
        encoders=sizes.encoders,
        vae=sizes.vae,
        preset=name,
        peak=low_memory.peak(PRESETS[name], sizes) if name else sizes.whole,
        travels=sizes.transformer if name and low_memory.visits(PRESETS[name], sizes) else 0.0,
    )


def _sizes(role: Role, quantization: Mapping[str, Any]) -> Sizes:
    folder = Path(role.source)
    if not folder.is_absolute():
        return _published(quantization)
    parts = ("transformer", "text_encoder", "text_encoder_2", "vae")
    transformer, clip, t5, vae = (
        sum(file.stat().st_size for file in (folder / part).glob("*.safetensors")) for part in parts
    )
    # Far smaller than any preset's bound, so that it never visits in blocks.
    return Sizes(transformer=transformer, block=transformer, outside=0, encoders=clip + t5, vae=vae)


def _published(quantization: Mapping[str, Any]) -> Sizes:
    """Bytes of a role of FLUX.1 with what is quantized on load, by part; the rest in bfloat16."""
    sizes = low_memory.published()
    weight, clip, t5 = (
        bytes_of_a_weight(quantization.get(part) or {})
        for part in ("transformer", "text_encoder", "text_encoder_2")
    )
    encoders = (
        clip * (PARAMETERS["text_encoder"] - CLIP_PLAIN)
        + t5 * (PARAMETERS["text_encoder_2"] - T5_PLAIN)
        + HALF * (CLIP_PLAIN + T5_PLAIN)
    )
    share = weight / HALF
    return Sizes(
        transformer=share * sizes.transformer,
        block=share * sizes.block,
        outside=share * sizes.outside,
        encoders=encoders,
        vae=sizes.vae,
    )


def _preset_way(name: str, preset: Preset) -> Way:
    sizes = low_memory.published()
    waiting = preset.transformers - (sizes.transformer <= preset.weights)
    encoders = sizes.encoders if preset.encoders_wait else 0
    main = waiting * sizes.transformer + encoders
    return Way(settings=f"--low-memory {name}", device=preset.weights, main=main)


def _held(family: str, name: str, role: Role, sizes: Mapping[str, int]) -> Held:
    """How much of a role is here: its own transformer, and what all roles share."""
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
    return Held(
        family=family,
        role=name,
        source=role.file or role.source,
        state=state,
        size=sum(sizes.get(repository, 0) for repository in _repositories(role)),
        whole=role.disk_gb * 1e9,
        missing=tuple(missing) if state == "partly" else (),
    )


def _needed(role: Role) -> Iterator[tuple[str, Path | None, list[str]]]:
    """Repositories, their folders in the Hub's cache or None, and patterns of what a role needs from each."""
    shared = ["vae", "text_encoder", "text_encoder_2"]
    if role.file is None:
        yield (
            role.source,
            hub_cache.snapshot(role.source),
            hub.weights([*shared, "transformer"], *hub.TOKENIZERS),
        )
    else:
        repository, _, name = role.file.rpartition("/")
        yield role.source, hub_cache.snapshot(role.source), hub.weights(shared, *hub.TOKENIZERS)
        yield repository, hub_cache.snapshot(repository), [name]


def _repositories(role: Role) -> set[str]:
    return {role.source} | ({role.file.rpartition("/")[0]} if role.file else set())


def _cached() -> dict[str, int]:
    """Bytes of each repository in the Hub's cache."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        return {found.repo_id: found.size_on_disk for found in scan_cache_dir(constants.HF_HUB_CACHE).repos}
    except CacheNotFound:
        return {}
