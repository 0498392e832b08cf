"""LoRA formats as the core asks for them. See `editkit.backbone.LoraFormats`, which this module is."""

from backbones.lora.coverage import check as check_fit
from backbones.lora.coverage import check_finite, check_shapes, shapes, widened
from backbones.lora.dialects import in_diffusers
from backbones.lora.files import check as check_destination
from backbones.lora.files import convert, merge, plain, write
from backbones.lora.lycoris import load as load_lycoris
from backbones.lora.summary import inspect

__all__ = [
    "check_destination",
    "check_finite",
    "check_fit",
    "check_shapes",
    "convert",
    "in_diffusers",
    "inspect",
    "load_lycoris",
    "merge",
    "plain",
    "shapes",
    "widened",
    "write",
]
