"""Quantizations by their configs' names, and a component that is loaded under one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from backbones.component_files import load_component
from backbones.load_options import LoadOptions

CPU = torch.device("cpu")
EIGHT = {"type": "BitsAndBytesConfig", "load_in_8bit": True}
FOUR = {
    "type": "BitsAndBytesConfig",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_compute_dtype": "float32",
}
TORCHAO = {"type": "TorchAoConfig", "quant_type": "Int8WeightOnlyConfig"}
QUANTO = {"type": "QuantoConfig", "weights": "int8"}


def loaded(name: str, home: Path, kind: dict[str, Any], file: Path | None = None) -> Any:
    """The component of that name, of a folder or of a file."""
    named = {} if file is None else {name: file}
    return load_component(
        LoadOptions(quantization={name: kind}, **named),
        name,
        lambda: home,
        torch.float32,
        torch.device("cpu"),
    )
