"""LoRA formats as the core uses them; this module is an `editkit.backbone.LoraFormats`."""

from backbones.lora.coverage import (
    check_dora,
    check_finite,
    check_fit,
    check_shapes,
    update_shapes,
    widen_lora,
)
from backbones.lora.dialects import convert_to_diffusers
from backbones.lora.files import check_destination, convert, merge, plain_lora, write_file
from backbones.lora.lycoris import load_lycoris
from backbones.lora.summary import inspect

__all__ = [
    "check_destination",
    "check_dora",
    "check_finite",
    "check_fit",
    "check_shapes",
    "convert",
    "convert_to_diffusers",
    "inspect",
    "load_lycoris",
    "merge",
    "plain_lora",
    "update_shapes",
    "widen_lora",
    "write_file",
]
