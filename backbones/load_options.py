"""Loading options: diffusers' quantizers, offload, attention backends, caches and compilation, by name."""

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers

from backbones.low_memory import AUTO, PRESETS
from backbones.specs import ROLES
from editkit.errors import EditkitError, first_sentence

CACHES = ("FirstBlockCacheConfig", "TaylorSeerCacheConfig")
"""Those of diffusers that need no callback and know FLUX's blocks."""
FILES = (".safetensors", ".gguf")
"""Endings of weight files that can be loaded."""
QUANTIZERS = ("BitsAndBytesConfig", "TorchAoConfig", "QuantoConfig", "NVIDIAModelOptConfig")


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
    torchao's own config, such as Int8WeightOnlyConfig, goes by its name as `quant_type`."""
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

    def replacement(self, role: str) -> Path | None:
        """What replaces a role's own transformer, or None."""
        named = isinstance(self.transformer, dict)
        chosen = self.transformer.get(role) if named else self.transformer
        return Path(chosen) if chosen and not self.source_role(role) else None

    def component(self, name: str) -> Path | None:
        """What replaces the family's own autoencoder or text encoder, or None."""
        chosen: dict[str, Path | None] = {
            "vae": self.vae, "text_encoder": self.text_encoder, "text_encoder_2": self.text_encoder_2,
        }  # fmt: skip
        return chosen[name]

    def source_role(self, role: str) -> str | None:
        """The role whose transformer replaces this role's, its input widened, or None."""
        chosen = self.transformer.get(role) if isinstance(self.transformer, dict) else None
        return chosen if chosen in ROLES else None


def build_config(values: dict[str, Any], allowed: Sequence[str]) -> Any:
    arguments = dict(values)
    name = str(arguments.pop("type", ""))
    if name not in allowed:
        raise EditkitError(f"The option type={name!r} is not allowed; give one of {', '.join(allowed)}.")
    try:
        if name == "TorchAoConfig":
            import torchao.quantization

            arguments["quant_type"] = getattr(torchao.quantization, str(arguments.get("quant_type")))()
        cls = getattr(diffusers, name)
        if strange := arguments.keys() - inspect.signature(cls.__init__).parameters.keys():
            raise TypeError(f"it has none called {min(strange)}")  # some take any and use none of them
        return cls(**arguments)
    except (AttributeError, TypeError, ValueError, ImportError) as error:
        raise EditkitError(f"diffusers' {name} refuses its arguments: {first_sentence(error)}.") from error
