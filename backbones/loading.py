"""Loading options: diffusers' quantizers, offload, attention backends, caches and compilation, by name."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
import transformers
from diffusers import FluxTransformer2DModel
from diffusers.hooks.group_offloading import _maybe_remove_and_reapply_group_offloading

from backbones import attention, folders
from backbones.conversion import single_file
from backbones.folders import LOADING_ERRORS
from backbones.low_memory import AUTO, PRESETS
from backbones.placement import CPU, Placement
from backbones.quantized import built, fill, quantize
from backbones.specs import ROLES
from editkit.backbone import Transformer
from editkit.errors import EditkitError, first_sentence, unknown
from editkit.quiet import no_bars

CACHES = ("FirstBlockCacheConfig", "TaylorSeerCacheConfig")
"""Those of diffusers that need no callback and know FLUX's blocks."""
FILES = (".safetensors", ".gguf")
QUANTIZERS = ("BitsAndBytesConfig", "TorchAoConfig", "QuantoConfig", "NVIDIAModelOptConfig")
ENCODER_QUANTIZERS = QUANTIZERS[:3]
"""Those that transformers has too."""
QUANTIZED_PARTS = ("transformer", "text_encoder", "text_encoder_2")
"""What can be quantized on load."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a transformer is loaded and run; everything here is diffusers' own."""

    transformer: Any = None
    """In place of the role's own: a .safetensors or .gguf file, or a diffusers transformer folder; or a
    mapping from roles to such, or to another role, whose input is then widened ({ace: fill})."""
    text_encoder: Path | None = None
    """In place of the family's CLIP: a .safetensors file or a transformers folder."""
    text_encoder_2: Path | None = None
    """In place of the family's T5: a .safetensors or .gguf file, or a transformers folder."""
    vae: Path | None = None
    """In place of the family's autoencoder: a .safetensors file or a diffusers folder."""
    axes: tuple[int, ...] | None = None
    """RoPE axes of a native file whose head width is not 128."""
    quantization: dict[str, Any] = field(default_factory=dict)
    """`type` names diffusers' class (BitsAndBytesConfig, TorchAoConfig, ...), the rest are its arguments;
    torchao's own config, such as Int8WeightOnlyConfig, goes by its name as `quant_type`. This is for the
    transformer; a mapping from `transformer`, `text_encoder` (CLIP) and `text_encoder_2` (T5) to such is for
    each of them, where the text encoders take transformers' class of that name."""
    offload: str | None = None
    """Of transformers. `block` or `leaf`: weights wait on the CPU and visit the device group by group;
    `none`: never. Without it `low_memory` decides."""
    low_memory: str | None = None
    """A preset for devices of little memory, `16g`, `24g` or `48g`, see `backbones.low_memory`; `auto`
    takes the one that fits the device. Other options win over it."""
    attention: str | None = None
    """diffusers' attention backend, such as `native`, `flash`, `sage`; `plain` trains fastest on CPUs."""
    cache: dict[str, Any] = field(default_factory=dict)
    """`type` names diffusers' class (FirstBlockCacheConfig, ...), the rest are its arguments."""
    compile: bool = False
    """Compile the repeated blocks with torch.compile."""

    def __post_init__(self) -> None:
        if self.offload not in (None, "none", "block", "leaf"):
            raise ValueError(f"offload must be none, block or leaf, not {self.offload!r}")
        if self.low_memory not in (None, AUTO, *PRESETS):
            allowed = ", ".join(PRESETS)
            raise ValueError(f"low_memory must be {allowed} or {AUTO}, not {self.low_memory!r}")
        named = self.transformer if isinstance(self.transformer, dict) else {}
        if strange := [role for role in named if role not in ROLES]:
            raise ValueError(f"transformer names roles, {', '.join(ROLES)}, and {strange[0]!r} is none")
        paths = named.values() or [self.transformer]
        if not all(path is None or isinstance(path, str | os.PathLike) for path in paths):
            raise ValueError(f"transformer must be a path, or paths by role, not {self.transformer!r}")
        self._check_quantization()

    def _check_quantization(self) -> None:
        if not self.quantization.keys() & set(QUANTIZED_PARTS):
            return
        allowed = ", ".join(QUANTIZED_PARTS)
        for part, values in self.quantization.items():
            if part not in QUANTIZED_PARTS:
                raise ValueError(f"quantization names parts, {allowed}, and {part!r} is none")
            if not isinstance(values, dict):
                raise ValueError(f"quantization.{part} must hold type and arguments, not {values!r}")

    def quantizer(self, part: str) -> dict[str, Any]:
        """How a part is quantized on load; empty where it is not."""
        if self.quantization.keys() & set(QUANTIZED_PARTS):
            return self.quantization.get(part) or {}
        return self.quantization if part == "transformer" else {}

    def instead(self, role: str) -> Path | None:
        """What replaces a role's own transformer, or None."""
        named = isinstance(self.transformer, dict)
        chosen = self.transformer.get(role) if named else self.transformer
        return Path(chosen) if chosen and not self.start(role) else None

    def part(self, name: str) -> Path | None:
        """What replaces the family's own autoencoder or text encoder, or None."""
        chosen: dict[str, Path | None] = {
            "vae": self.vae, "text_encoder": self.text_encoder, "text_encoder_2": self.text_encoder_2,
        }  # fmt: skip
        return chosen[name]

    def start(self, role: str) -> str | None:
        """The role whose transformer replaces this role's, its input widened, or None."""
        chosen = self.transformer.get(role) if isinstance(self.transformer, dict) else None
        return chosen if chosen in ROLES else None


def load_transformer(
    options: LoadOptions,
    role: str,
    own: Callable[[], Path],
    dtype: torch.dtype,
    device: torch.device = CPU,
) -> FluxTransformer2DModel:
    """A transformer from the role's own file or folder, or from what the options name.

    Args:
        options: may name another, and how to quantize it.
        role: whose it is.
        own: finds the role's own file or folder.
        dtype: of weights that are not quantized.
        device: where weights are quantized; others stay on the CPU.

    Raises:
        EditkitError: where it is missing, damaged, pickled or of another shape.
    """
    where = options.instead(role) or own()
    if not (where.is_dir() or (where.is_file() and where.suffix in FILES)):
        wanted = "a .safetensors or .gguf file, or a folder, that exists; pickles are never opened"
        raise EditkitError(f"The transformer {where} cannot be loaded; give {wanted}.")
    asked = options.quantizer("transformer")
    quantizer = _made(asked, QUANTIZERS) if asked else None
    try:
        if where.is_file():
            config, state, exact = single_file.transformer(where, options.axes)
            model = built(FluxTransformer2DModel, config)
            if quantizer:
                quantize(model, state, quantizer, dtype, device)
            else:
                fill(model, state, dtype, exact=exact)
        elif quantizer is None and folders.in_four_bits(where):
            model = folders.filled(FluxTransformer2DModel, where, dtype)
        else:
            extra = {"quantization_config": quantizer} if quantizer else {}
            with no_bars():
                found = FluxTransformer2DModel.from_pretrained(
                    where, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, **extra
                )
            model = folders.complete(*found)
    except (*LOADING_ERRORS, ImportError) as error:
        raise EditkitError(
            f"The transformer in {where} cannot be loaded ({first_sentence(error)})."
        ) from error
    return cast(FluxTransformer2DModel, model.eval().requires_grad_(False))


def encoder_quantizer(options: LoadOptions, part: str) -> Any:
    """transformers' config that quantizes a text encoder on load, or None.

    Raises:
        EditkitError: where transformers has none of this name, or refuses its arguments.
    """
    asked = options.quantizer(part)
    return _made(asked, ENCODER_QUANTIZERS, transformers) if asked else None


def place(
    transformer: FluxTransformer2DModel,
    device: torch.device,
    options: LoadOptions,
    placement: Placement | None = None,
) -> FluxTransformer2DModel:
    """Move it to its device, or let a preset's placement do so, and switch on what the options ask for.

    Raises:
        EditkitError: where diffusers refuses an option.
    """
    try:
        (placement or Placement(device, None)).put(transformer, device, options.offload)
        if options.attention == attention.PLAIN:
            attention.use_plain(transformer)
        elif options.attention:
            transformer.set_attention_backend(options.attention)
        if options.cache:
            transformer.enable_cache(_made(options.cache, CACHES))
        if options.compile:
            # GELU's tanh by way of exp, which saves a seventh of a training step of `tiny` on a CPU.
            transformer.compile_repeated_blocks(options={"cpp.use_decompose_tanh": True})
    except (ValueError, RuntimeError, ImportError, TypeError) as error:
        raise EditkitError(f"The backbone's options do not fit: {first_sentence(error)}.") from error
    return transformer


def regroup(transformer: Transformer) -> None:
    """Where weights visit the device group by group, take in those of adapters that came or went.

    diffusers does so within its pipelines' LoRA loaders alone; what is in no group stays on the CPU.
    """
    _maybe_remove_and_reapply_group_offloading(transformer)


def untrained(cls: Any, values: Mapping[str, Any], key: str) -> Any:
    """A diffusers model with random weights from its config, which a training config holds under `key`.

    Raises:
        EditkitError: for what diffusers would leave out without a word, or refuse.
    """
    known = inspect.signature(cls.__init__).parameters
    if strange := [name for name in values if name not in known]:
        raise EditkitError(unknown(f"key of {key} called", strange[0], [*known][1:]))
    try:
        return cls.from_config(dict(values))
    except (AttributeError, ArithmeticError, IndexError, *LOADING_ERRORS) as error:
        problem = f"{first_sentence(error)}, says diffusers' {cls.__name__}"
        raise EditkitError(f"The config under {key} does not fit: {problem}.") from error


def _made(values: dict[str, Any], allowed: Sequence[str], library: Any = diffusers) -> Any:
    arguments = dict(values)
    name = str(arguments.pop("type", ""))
    if name not in allowed:
        raise EditkitError(f"The option type={name!r} is not allowed; give one of {', '.join(allowed)}.")
    try:
        if name == "TorchAoConfig":
            import torchao.quantization

            arguments["quant_type"] = getattr(torchao.quantization, str(arguments.get("quant_type")))()
        cls = getattr(library, name)
        if strange := arguments.keys() - inspect.signature(cls.__init__).parameters.keys():
            raise TypeError(f"it has none called {min(strange)}")  # some take any and use none of them
        return cls(**arguments)
    except (AttributeError, TypeError, ValueError, ImportError) as error:
        problem = f"{library.__name__}' {name} refuses its arguments: {first_sentence(error)}."
        raise EditkitError(problem) from error
