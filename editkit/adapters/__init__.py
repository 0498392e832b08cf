"""Load, train, save and choose LoRA adapters."""

from editkit.adapters.files import FILE, METADATA, check, digest, file, is_adapter, read
from editkit.adapters.lora import (
    LoraOptions,
    attach,
    eject,
    install,
    load,
    metadata,
    resume,
    save,
    state,
    unfreeze,
)
from editkit.adapters.peft_layers import active, check_scales, enable, is_plain, layers

__all__ = [
    "FILE",
    "METADATA",
    "LoraOptions",
    "active",
    "attach",
    "check",
    "check_scales",
    "digest",
    "eject",
    "enable",
    "file",
    "install",
    "is_adapter",
    "is_plain",
    "layers",
    "load",
    "metadata",
    "read",
    "resume",
    "save",
    "state",
    "unfreeze",
]
