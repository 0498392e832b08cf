"""LoRA adapters: layers on a transformer, and the choice of them for each method."""

from editkit.adapters.lora import (
    FILE,
    LoraOptions,
    attach,
    eject,
    file,
    install,
    load,
    metadata,
    read,
    resume,
    save,
    state,
    unfreeze,
)
from editkit.adapters.peft_layers import active, enable, layers

__all__ = [
    "FILE",
    "LoraOptions",
    "active",
    "attach",
    "eject",
    "enable",
    "file",
    "install",
    "layers",
    "load",
    "metadata",
    "read",
    "resume",
    "save",
    "state",
    "unfreeze",
]
