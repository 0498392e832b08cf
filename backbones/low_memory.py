"""Define presets for devices with little memory, and compute what each keeps on the device."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from backbones.specs import FAMILIES, PARAMETERS
from editkit.errors import EditkitError

ROOM = 3e9
"""Largest number of bytes that an edit of one megapixel needs besides weights."""
BF16 = 2
"""Bytes of a weight in bfloat16."""
LARGEST_BLOCK, OUTSIDE_BLOCKS = 339_831_296, 64_124_992
"""Parameters of the transformer."""
AUTO = "auto"
"""Name that stands for the preset that fits the device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """The settings of one preset.

    Attributes:
        weights: largest number of bytes of weights on the device at once. To make room, the least recently
            used models move to the CPU. A model that is larger visits the device group by group: a
            transformer block by block, others layer by layer.
        stream: whether the next group is copied while the one before computes; on CUDA only.
        transformers: number of transformers that stay loaded. The least recently used one is dropped, and
            loaded again with its adapters when it is needed.
        offload_encoders: whether the text encoders move to the CPU as soon as a prompt is encoded.
        pixels: largest number of pixels that the autoencoder takes at once. A larger picture is processed in
            tiles. Smaller pictures, such as the previews of a seed search, are processed together as far as
            they fit.
    """

    weights: float
    stream: bool
    transformers: int
    offload_encoders: bool
    pixels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightBytes:
    """Bytes of a role's weights.

    Attributes:
        transformer: the whole transformer.
        block: its largest block.
        outside: its layers outside of blocks.
        encoders: both text encoders.
        vae: the autoencoder.
    """

    transformer: float
    block: float
    outside: float
    encoders: float
    vae: float

    @property
    def whole(self) -> float:
        """Bytes of all weights."""
        return self.transformer + self.encoders + self.vae

    def times(self, factor: float) -> "WeightBytes":
        """Return the bytes in a precision that takes so many times as many."""
        return WeightBytes(**{name: factor * size for name, size in asdict(self).items()})


PRESETS: Mapping[str, Preset] = {
    "16g": Preset(weights=12e9, stream=True, transformers=1, offload_encoders=True, pixels=1024 * 1024),
    "24g": Preset(weights=20e9, stream=True, transformers=1, offload_encoders=True, pixels=1536 * 1536),
    "48g": Preset(weights=42e9, stream=True, transformers=2, offload_encoders=False, pixels=2048 * 2048),
}
"""Presets by name, the smallest first."""


def published_weights() -> WeightBytes:
    """Return the bytes of a role of FLUX.1 in bfloat16."""
    return WeightBytes(
        transformer=BF16 * PARAMETERS["transformer"],
        block=BF16 * LARGEST_BLOCK,
        outside=BF16 * OUTSIDE_BLOCKS,
        encoders=BF16 * (PARAMETERS["text_encoder"] + PARAMETERS["text_encoder_2"]),
        vae=BF16 * PARAMETERS["vae"],
    )


def visits_in_groups(preset: Preset, sizes: WeightBytes) -> bool:
    """Whether the transformer is too large to stay on the device, and visits it group by group."""
    return sizes.transformer > preset.weights


def transformer_bytes(preset: Preset, sizes: WeightBytes) -> float:
    """Return how many bytes of the transformer are on the device at once: all, or the groups in use."""
    if not visits_in_groups(preset, sizes):
        return sizes.transformer
    return sizes.outside + (2 if preset.stream else 1) * sizes.block


def peak_bytes(preset: Preset, sizes: WeightBytes) -> float:
    """Return the largest number of bytes of weights on the device at once during edits in one role."""
    transformer = transformer_bytes(preset, sizes)
    stays = sizes.vae + (transformer if transformer == sizes.transformer else 0)
    encoding = sizes.encoders + stays
    denoising = transformer + sizes.vae + (0 if preset.offload_encoders else sizes.encoders)
    return min(preset.weights, max(encoding, denoising))


def largest_preset(memory: float) -> str | None:
    """Return the name of the largest preset that fits this many bytes; None where no preset fits."""
    fit = [name for name, preset in PRESETS.items() if preset.weights + ROOM <= memory]
    return fit[-1] if fit else None


def fits_without_preset(memory: float) -> bool:
    """Whether all roles of the largest family fit together in this many bytes."""
    roles = max(len(family.roles) for family in FAMILIES.values())
    sizes = published_weights()
    return sizes.whole + (roles - 1) * sizes.transformer + ROOM <= memory


def preset_below_all(memory: float, sizes: WeightBytes) -> Preset | None:
    """Return a preset for a device below the smallest one; None where the transformer does not stay whole."""
    preset = replace(next(iter(PRESETS.values())), weights=memory - ROOM)
    return preset if sizes.transformer + sizes.vae <= preset.weights else None


def choose_preset(name: str | None, device: str, roles: Callable[[], Iterable[WeightBytes]]) -> Preset | None:
    """Return the preset of this name; for `auto`, the one that fits the device, or None where all roles fit.

    Args:
        name: of the preset, or `auto`, or None.
        device: the device.
        roles: counts the weights of each role; called for `auto` alone.

    Raises:
        EditkitError: where the device is too small for every preset and every role's transformer.
    """
    if name != AUTO:
        return None if name is None else PRESETS[name]
    memory, sizes = _device_memory(device), sorted(roles(), key=lambda each: each.transformer)
    shared = max(each.encoders + each.vae for each in sizes)
    if shared + sum(each.transformer for each in sizes) + ROOM <= memory:
        return None
    found = largest_preset(memory)
    preset = PRESETS[found] if found else preset_below_all(memory, sizes[0])
    if preset is None:
        least = f"a transformer of {sizes[0].transformer / 1e9:.1f} GB"
        raise EditkitError(
            f"low_memory=auto finds no preset for {least} on the {memory / 1e9:.1f} GB of {device}; load a "
            f"smaller file, such as Q4 in GGUF, or give low_memory={next(iter(PRESETS))} to try the smallest."
        )
    return preset


def _device_memory(device: str) -> float:
    """Return the bytes of a device; the first of its kind counts where the name has no number."""
    from editkit import machine

    found = machine.devices()
    named = [each for each in found if each.name == device.removesuffix(":0")]
    return float(named[0].memory if named else found[0].memory)
