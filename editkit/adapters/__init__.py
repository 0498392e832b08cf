"""Load, train, save and choose LoRA adapters."""

from editkit.adapters.files import (
    FILE,
    METADATA,
    check_adapter_file,
    choose,
    digest,
    file,
    is_adapter,
    read_adapter,
)
from editkit.adapters.lora import (
    attach,
    eject,
    install,
    load_adapter,
    metadata,
    resume,
    save,
    state,
    unfreeze,
)
from editkit.adapters.lora_options import LoraOptions
from editkit.adapters.peft_layers import (
    active,
    check_scales,
    enable,
    is_name,
    is_plain,
    layers,
    version,
)

__all__ = [
    "FILE",
    "METADATA",
    "LoraOptions",
    "active",
    "attach",
    "check_adapter_file",
    "check_scales",
    "choose",
    "digest",
    "eject",
    "enable",
    "file",
    "install",
    "is_adapter",
    "is_name",
    "is_plain",
    "layers",
    "load_adapter",
    "metadata",
    "read_adapter",
    "resume",
    "save",
    "state",
    "unfreeze",
    "version",
]
