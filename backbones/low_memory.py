"""Presets for devices of little memory: what each switches, and how much of FLUX.1 it keeps on the device."""

from collections.abc import Mapping
from dataclasses import dataclass

from backbones.specs import FAMILIES, PARAMETERS
from editkit.errors import EditkitError

ROOM = 3e9
"""Bytes that an edit of one megapixel needs besides weights, at most."""
HALF = 2
LARGEST_BLOCK, OUTSIDE_BLOCKS = 339_831_296, 64_124_992
"""Parameters of the transformer."""
AUTO = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """What one preset switches.

    Attributes:
        weights: bytes of weights that may be on the device at once. Models that were used least recently
            move to the CPU to make room. A model that is larger than this visits the device group by group:
            a transformer block by block, others layer by layer.
        stream: whether the next group travels while the one before computes; on CUDA alone.
        transformers: how many stay loaded. The one used least recently is let go, and loaded again with its
            adapters when it is needed.
        encoders_wait: whether the text encoders move to the CPU as soon as a prompt is encoded.
        pixels: how many the autoencoder takes at once. A larger picture goes tile by tile; of smaller ones,
            such as the previews of a seed search, as many go together as fit.
    """

    weights: float
    stream: bool
    transformers: int
    encoders_wait: bool
    pixels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Bytes of a role's weights: of the transformer, of its parts that matter, of what all roles share."""

    transformer: float
    block: float
    outside: float
    encoders: float
    vae: float

    @property
    def whole(self) -> float:
        """Bytes of all weights."""
        return self.transformer + self.encoders + self.vae


PRESETS: Mapping[str, Preset] = {
    "16g": Preset(weights=12e9, stream=True, transformers=1, encoders_wait=True, pixels=1024 * 1024),
    "24g": Preset(weights=20e9, stream=True, transformers=1, encoders_wait=True, pixels=1536 * 1536),
    "48g": Preset(weights=42e9, stream=True, transformers=2, encoders_wait=False, pixels=2048 * 2048),
}
"""From the smallest."""


def published() -> Sizes:
    """Bytes of a role of FLUX.1 in bfloat16."""
    return Sizes(
        transformer=HALF * PARAMETERS["transformer"],
        block=HALF * LARGEST_BLOCK,
        outside=HALF * OUTSIDE_BLOCKS,
        encoders=HALF * (PARAMETERS["text_encoder"] + PARAMETERS["text_encoder_2"]),
        vae=HALF * PARAMETERS["vae"],
    )


def visits(preset: Preset, sizes: Sizes) -> bool:
    """Whether the transformer is too large to stay, and comes to the device group by group."""
    return sizes.transformer > preset.weights


def visiting(preset: Preset, sizes: Sizes) -> float:
    """Bytes of the transformer that are on the device at once: all, or the groups of the moment."""
    if not visits(preset, sizes):
        return sizes.transformer
    return sizes.outside + (2 if preset.stream else 1) * sizes.block


def peak(preset: Preset, sizes: Sizes) -> float:
    """Bytes of weights on the device at once during edits in one role, at most."""
    transformer = visiting(preset, sizes)
    stays = sizes.vae + (transformer if transformer == sizes.transformer else 0)
    encoding = sizes.encoders + stays
    denoising = transformer + sizes.vae + (0 if preset.encoders_wait else sizes.encoders)
    return min(preset.weights, max(encoding, denoising))


def fitting(memory: float) -> str | None:
    """The name of the largest preset for a device of this many bytes; None where it is too small for any."""
    fit = [name for name, preset in PRESETS.items() if preset.weights + ROOM <= memory]
    return fit[-1] if fit else None


def takes_all(memory: float) -> bool:
    """Whether the largest family's roles fit in this many bytes together, without any preset."""
    roles = max(len(family.roles) for family in FAMILIES.values())
    sizes = published()
    return sizes.whole + (roles - 1) * sizes.transformer + ROOM <= memory


def chosen(name: str | None, device: str) -> Preset | None:
    """The preset of this name; `auto` is the one that fits the device, and none where all roles fit.

    Raises:
        EditkitError: where the device is too small for any.
    """
    if name != AUTO:
        return None if name is None else PRESETS[name]
    memory = _memory(device)
    if takes_all(memory):
        return None
    found = fitting(memory)
    if found is None:
        first = next(iter(PRESETS))
        raise EditkitError(
            f"low_memory=auto finds no preset for the {memory / 1e9:.1f} GB of {device}; "
            f"give low_memory={first} to try the smallest."
        )
    return PRESETS[found]


def _memory(device: str) -> float:
    """Bytes of a device; where several are of its kind and none is named, of the first."""
    from editkit import machine

    found = machine.devices()
    named = [each for each in found if each.name == device.removesuffix(":0")]
    return float(named[0].memory if named else found[0].memory)
