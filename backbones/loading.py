"""Loading options: diffusers' quantizers, offload, attention backends, caches and compilation, by name."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from diffusers import FluxTransformer2DModel
from diffusers.hooks import apply_group_offloading
from diffusers.hooks.group_offloading import _maybe_remove_and_reapply_group_offloading
from safetensors import SafetensorError

from backbones import attention
from backbones.conversion import state_dict
from backbones.specs import ROLES
from editkit.backbone import Transformer
from editkit.errors import EditkitError, first_sentence, unknown
from editkit.quiet import no_bars

CACHES = ("FirstBlockCacheConfig", "TaylorSeerCacheConfig")
"""Those of diffusers that need no callback and know FLUX's blocks."""
COLUMNS = {(64, 384): range(64), (64, 448): range(64), (384, 448): state_dict.FILL_TO_ACE}
"""From text to image to Fill, and from either to ACE++."""
QUANTIZERS = ("BitsAndBytesConfig", "TorchAoConfig", "QuantoConfig", "NVIDIAModelOptConfig")
LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError)


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a transformer is loaded and run; everything here is diffusers' own."""

    transformer: Any = None
    """In place of the role's own: a .safetensors file in BFL's naming, or a diffusers transformer folder; or
    a mapping from roles to such, or to another role, whose input is then widened ({ace: fill})."""
    axes: tuple[int, ...] | None = None
    """RoPE axes of a native file whose head width is not 128."""
    quantization: dict[str, Any] = field(default_factory=dict)
    """`type` names diffusers' class (BitsAndBytesConfig, TorchAoConfig, ...), the rest are its arguments;
    torchao's own config, such as Int8WeightOnlyConfig, goes by its name as `quant_type`."""
    offload: str = "none"
    """`none`, or `block` or `leaf`: weights wait on the CPU and visit the device group by group."""
    attention: str | None = None
    """diffusers' attention backend, such as `native`, `flash`, `sage`; `plain` trains fastest on CPUs."""
    cache: dict[str, Any] = field(default_factory=dict)
    """`type` names diffusers' class (FirstBlockCacheConfig, ...), the rest are its arguments."""
    compile: bool = False
    """Compile the repeated blocks with torch.compile."""

    def __post_init__(self) -> None:
        if self.offload not in ("none", "block", "leaf"):
            raise ValueError(f"offload must be none, block or leaf, not {self.offload!r}")
        named = self.transformer if isinstance(self.transformer, dict) else {}
        if strange := [role for role in named if role not in ROLES]:
            raise ValueError(f"transformer names roles, {', '.join(ROLES)}, and {strange[0]!r} is none")
        paths = named.values() or [self.transformer]
        if not all(path is None or isinstance(path, str | os.PathLike) for path in paths):
            raise ValueError(f"transformer must be a path, or paths by role, not {self.transformer!r}")

    def instead(self, role: str) -> Path | None:
        """What replaces a role's own transformer, or None."""
        named = isinstance(self.transformer, dict)
        chosen = self.transformer.get(role) if named else self.transformer
        return Path(chosen) if chosen and not self.start(role) else None

    def start(self, role: str) -> str | None:
        """The role whose transformer replaces this role's, its input widened, or None."""
        chosen = self.transformer.get(role) if isinstance(self.transformer, dict) else None
        return chosen if chosen in ROLES else None


def load_transformer(
    options: LoadOptions, role: str, own: Callable[[], Path], dtype: torch.dtype
) -> FluxTransformer2DModel:
    """A transformer from the role's own file or folder, or from what the options name.

    Raises:
        EditkitError: where it is missing, damaged, pickled or of another shape.
    """
    extra = {"quantization_config": _made(options.quantization, QUANTIZERS)} if options.quantization else {}
    where = options.instead(role) or own()
    native = where.suffix == ".safetensors" and where.is_file()
    if not (native or where.is_dir()):
        wanted = "a .safetensors file or a folder that exists; pickles are never opened"
        raise EditkitError(f"The transformer {where} cannot be loaded; give {wanted}.")
    if native and extra:
        raise EditkitError("quantization needs a diffusers folder; run `editkit weights convert` first.")
    try:
        if native:
            from backbones.conversion.checkpoints import read_native

            config, state = read_native(where, options.axes)
            with torch.device("meta"):
                model = FluxTransformer2DModel.from_config(config)
            model.load_state_dict({name: tensor.to(dtype) for name, tensor in state.items()}, assign=True)
        else:
            with no_bars():
                found = FluxTransformer2DModel.from_pretrained(
                    where, torch_dtype=dtype, use_safetensors=True, output_loading_info=True, **extra
                )
            model = complete(*found)
    except (*LOADING_ERRORS, ImportError) as error:
        raise EditkitError(
            f"The transformer in {where} cannot be loaded ({first_sentence(error)})."
        ) from error
    return cast(FluxTransformer2DModel, model.eval().requires_grad_(False))


def widened(transformer: FluxTransformer2DModel, in_channels: int) -> FluxTransformer2DModel:
    """A transformer's weights behind a wider input, whose new channels have no effect yet.

    They are no copies; adapters that it carries stay behind.

    Raises:
        EditkitError: where no way is known from the one's channels to the other's.
    """
    held = transformer.config.in_channels
    if (held, in_channels) not in COLUMNS:
        ways = ", ".join(f"{a} to {b}" for a, b in COLUMNS)
        raise EditkitError(
            f"An input of {held} channels cannot become one of {in_channels}; known are {ways}."
        )
    # peft keeps what it wraps under this name.
    state = {name.replace(".base_layer.", "."): tensor for name, tensor in transformer.state_dict().items()}
    state["x_embedder.weight"] = state_dict.widen_input(
        state["x_embedder.weight"], in_channels, COLUMNS[held, in_channels]
    )
    changed = {"in_channels": in_channels, "out_channels": transformer.out_channels}
    with torch.device("meta"):
        wide = FluxTransformer2DModel.from_config({**transformer.config, **changed})
    wide.load_state_dict({name: state[name] for name in wide.state_dict()}, assign=True)
    return cast(FluxTransformer2DModel, wide.eval().requires_grad_(False))


def place(
    transformer: FluxTransformer2DModel, device: torch.device, options: LoadOptions
) -> FluxTransformer2DModel:
    """Move it to its device and switch on what the options ask for.

    Raises:
        EditkitError: where diffusers refuses an option.
    """
    try:
        if options.offload == "none":
            if not options.quantization:
                transformer.to(device)
        else:
            apply_group_offloading(
                transformer,
                onload_device=device,
                offload_device=torch.device("cpu"),
                offload_type=f"{options.offload}_level",
                num_blocks_per_group=1 if options.offload == "block" else None,
            )
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


def pretrained(cls: Any, folder: Path | str, part: str, dtype: torch.dtype) -> Any:
    """A model from a folder's subfolder `part`, frozen, or from the folder itself where `part` is empty.

    Raises:
        EditkitError: where it is missing, damaged or pickled.
    """
    options = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    try:
        # The encoders' files may hold more than FLUX needs: T5's decoder, CLIP's position ids.
        with no_bars():
            found = cls.from_pretrained(folder, **options, **({"subfolder": part} if part else {}))
        model = complete(*found, spare=part.startswith("text"))
    except LOADING_ERRORS as error:
        what = part or cls.__name__
        raise EditkitError(f"The {what} in {folder} cannot be loaded ({first_sentence(error)}).") from error
    return model.eval().requires_grad_(False)


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


def complete(model: Any, found: dict[str, Any], *, spare: bool = False) -> Any:
    """A model that `from_pretrained` gave together with what it found, once all its weights were there.

    Where some are missing, diffusers and transformers make them up and say so in a log only.

    Args:
        model: the model.
        found: its loading info.
        spare: whether the files may hold more than the model has.

    Raises:
        ValueError: where weights and config do not belong together.
    """
    missing, extra = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    if missing:
        raise ValueError(f"its files lack {len(missing)} tensors of its config, such as {missing[0]}")
    if extra and not spare:
        raise ValueError(f"its files hold {len(extra)} tensors that its config lacks, such as {extra[0]}")
    return model


def _made(values: dict[str, Any], allowed: Sequence[str]) -> Any:
    arguments = dict(values)
    name = str(arguments.pop("type", ""))
    if name not in allowed:
        raise EditkitError(f"The option type={name!r} is not allowed; give one of {', '.join(allowed)}.")
    try:
        if name == "TorchAoConfig":
            import torchao.quantization

            arguments["quant_type"] = getattr(torchao.quantization, str(arguments.get("quant_type")))()
        return getattr(diffusers, name)(**arguments)
    except (AttributeError, TypeError, ValueError, ImportError) as error:
        raise EditkitError(f"diffusers' {name} refuses its arguments: {first_sentence(error)}.") from error
