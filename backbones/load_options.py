"""Define the loading options: quantizers, offload, attention backends, caches and compilation."""

import inspect
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import transformers

from backbones.low_memory import AUTO, PRESETS
from backbones.specs import ROLES
from editkit.backbone import Role
from editkit.errors import EditkitError, first_sentence

CACHES = ("FirstBlockCacheConfig", "TaylorSeerCacheConfig")
"""Cache configs of diffusers that need no callback and support FLUX's blocks."""
STEP_CACHES = (*CACHES, "MagCacheConfig")
"""The same, and one that must know the number of steps of each edit."""
FILES = (".safetensors", ".sft", ".gguf")
"""Endings of weight files that can be loaded; the first two are of one format."""
BITSANDBYTES = "BitsAndBytesConfig"
"""Quantization config of bitsandbytes in diffusers and transformers."""
QUANTIZERS = (BITSANDBYTES, "TorchAoConfig", "QuantoConfig", "NVIDIAModelOptConfig")
"""Quantization configs of diffusers that FLUX can be loaded with."""
BITS = {"load_in_4bit", "load_in_8bit"}
"""Arguments that the first of them alone takes."""
ENCODER_QUANTIZERS = QUANTIZERS[:3]
"""Those of them that transformers has too, for text encoders."""
QUANTIZED_PARTS = ("transformer", "text_encoder", "text_encoder_2")
"""Models that can be quantized on load."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Options of how a backbone's models are loaded and run; quantizers and hooks are diffusers' own."""

    transformer: Any = None
    """Transformer to use instead of the role's own: a .safetensors or .gguf file, or a diffusers transformer
    folder. Or a mapping from roles to such files, or to another role, whose input is then widened ({ace:
    fill})."""
    text_encoder: Path | None = None
    """CLIP to use instead of the family's: a .safetensors or .gguf file, or a transformers folder."""
    text_encoder_2: Path | None = None
    """T5 to use instead of the family's: a .safetensors or .gguf file, or a transformers folder."""
    vae: Path | None = None
    """Autoencoder to use instead of the family's: a .safetensors file or a diffusers folder."""
    axes: tuple[int, ...] | None = None
    """RoPE axes of a native file whose attention heads are not 128 wide."""
    quantization: dict[str, Any] = field(default_factory=dict)
    """Quantizer: `type` names diffusers' class (BitsAndBytesConfig, TorchAoConfig, ...), the other keys are
    its arguments. `load_in_4bit` and `load_in_8bit` need no type: they are BitsAndBytesConfig's. torchao's
    own config, such as Int8WeightOnlyConfig, is named by `quant_type`. This quantizes the transformer. Or a
    mapping from `transformer`, `text_encoder` (CLIP) and `text_encoder_2` (T5) to such quantizers; for text
    encoders, `type` names transformers' class."""
    offload: str | None = None
    """Offload of transformers. `block` or `leaf`: weights wait on the CPU and visit the device group by
    group. `none`: never. If not given, `low_memory` decides."""
    low_memory: str | None = None
    """Preset for devices with little memory: `16g`, `24g` or `48g`, see `backbones.low_memory`; `auto`
    chooses the one that fits the device. Other options override it."""
    attention: str | None = None
    """Attention backend of diffusers, such as `native`, `flash` or `sage`; `plain` trains fastest on CPUs."""
    cache: dict[str, Any] = field(default_factory=dict)
    """Cache: `type` names diffusers' class (FirstBlockCacheConfig, ...), the other keys are its arguments."""
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
            raise ValueError(f"transformer may name the roles {', '.join(ROLES)}, not {strange[0]!r}")
        paths = named.values() or [self.transformer]
        if not all(path is None or isinstance(path, str | os.PathLike) for path in paths):
            raise ValueError(f"transformer must be a path, or paths by role, not {self.transformer!r}")
        self._check_quantization()

    def _check_quantization(self) -> None:
        """Check the models' names where quantization is given by model.

        Raises:
            ValueError: naming the first key or value that is not allowed.
        """
        if not self.quantization.keys() & set(QUANTIZED_PARTS):
            return
        allowed = ", ".join(QUANTIZED_PARTS)
        for part, values in self.quantization.items():
            if part not in QUANTIZED_PARTS:
                raise ValueError(f"quantization may name {allowed}, not {part!r}")
            if not isinstance(values, dict):
                raise ValueError(f"quantization.{part} must hold type and arguments, not {values!r}")

    def quantizer(self, part: str) -> dict[str, Any]:
        """Return how a model is quantized on load; an empty dict where it is not."""
        if self.quantization.keys() & set(QUANTIZED_PARTS):
            found = self.quantization.get(part) or {}
        else:
            found = self.quantization if part == "transformer" else {}
        bits = "type" not in found and found.keys() & BITS
        return {"type": BITSANDBYTES, **found} if bits else found

    def replacement(self, role: str) -> Path | None:
        """Return the file or folder that replaces a role's own transformer, or None."""
        named = isinstance(self.transformer, dict)
        chosen = self.transformer.get(role) if named else self.transformer
        return Path(chosen) if chosen and not self.source_role(role) else None

    def key(self, name: str, role: Role) -> str:
        """Identify a role's transformer: roles of one key share theirs, unless another file replaces it."""
        given = self.replacement(name)
        return role.key if given is None else f"{role.key}, {given}"

    def changed(self) -> dict[str, Any]:
        """Return the options that differ from the defaults, in JSON's types."""
        usual = asdict(LoadOptions())
        chosen = {key: value for key, value in asdict(self).items() if value != usual[key]}
        found: dict[str, Any] = json.loads(json.dumps(chosen, default=str))
        return found

    def component(self, name: str) -> Path | None:
        """Return the file or folder that replaces the family's own autoencoder or text encoder, or None."""
        chosen: dict[str, Path | None] = {
            "vae": self.vae, "text_encoder": self.text_encoder, "text_encoder_2": self.text_encoder_2,
        }  # fmt: skip
        return chosen[name]

    def source_role(self, role: str) -> str | None:
        """Return the role whose transformer, with a widened input, replaces this role's own, or None."""
        chosen = self.transformer.get(role) if isinstance(self.transformer, dict) else None
        return chosen if chosen in ROLES else None


def encoder_quantizer(options: LoadOptions, part: str) -> Any:
    """Build transformers' config that quantizes a text encoder on load; return None where none is asked for.

    Raises:
        EditkitError: where transformers has no such class, or the class refuses its arguments.
    """
    asked = options.quantizer(part)
    return build_config(asked, ENCODER_QUANTIZERS, transformers) if asked else None


def build_config(values: dict[str, Any], allowed: Sequence[str], library: Any = diffusers) -> Any:
    """Build a library's config from a mapping whose `type` is the name of its class.

    Args:
        values: `type`, and the arguments of the class.
        allowed: class names that may be given.
        library: the module of the class, diffusers or transformers.

    Raises:
        EditkitError: where the class is not allowed or refuses its arguments.
    """
    arguments = dict(values)
    if "type" not in arguments:
        exempt = (
            f"; of bitsandbytes' arguments {', '.join(sorted(BITS))} need none"
            if BITSANDBYTES in allowed
            else ""
        )
        raise EditkitError(
            f"{', '.join(arguments)} needs a type beside it, one of {', '.join(allowed)}{exempt}."
        )
    name = str(arguments.pop("type"))
    if name not in allowed:
        raise EditkitError(f"The option type={name!r} is not allowed; give one of {', '.join(allowed)}.")
    try:
        if name == "TorchAoConfig":
            import torchao.quantization

            arguments["quant_type"] = getattr(torchao.quantization, str(arguments.get("quant_type")))()
        cls = getattr(library, name)
        if strange := arguments.keys() - inspect.signature(cls.__init__).parameters.keys():
            raise TypeError(f"there is no argument {min(strange)}")  # some classes accept any and ignore it
        return cls(**arguments)
    except (AttributeError, TypeError, ValueError, ImportError) as error:
        problem = f"{library.__name__}' {name} refuses its arguments: {first_sentence(error)}."
        raise EditkitError(problem) from error
