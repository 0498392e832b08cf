"""Contract: the tables of the page on weight files are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests import ROOT
from tests.backbones.files.networks import GGUF, loaded
from tests.weight_files import (
    SPELLINGS,
    State,
    write,
)

PAGE = (ROOT / "docs" / "guides" / "weight-files.md").read_text()
ROWS = {
    "fp8 without scales": "fp8 plain",
    "fp8 with `scale_weight`": "fp8 scaled, scale_weight",
    "fp8 with `weight_scale`": "fp8 scaled, hints",
    "fp8 with a scale for each row": "fp8 by rows",
    "NVFP4 of ComfyUI, of Black Forest Labs' FLUX.1 too": "NVFP4, ComfyUI",
    "NVFP4 as diffusers' quantizer has it": "NVFP4, BFL",
    "NF4 and FP4 of bitsandbytes": "NF4",
}
"""Formats on the page, and the spelling that is tried for each; the others have tests of their own."""
OWN_TESTS = {"safetensors, bf16, fp16 or fp32", "GGUF", "folder of diffusers or transformers"}


def rows(first: str) -> list[list[str]]:
    found = re.search(rf"^\| {first} \|.*\n\|[- |]+\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    assert found
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def test_every_row_of_the_page_is_tried() -> None:
    assert {row[0] for row in rows("format")} == ROWS.keys() | OWN_TESTS


@pytest.mark.parametrize("row", [row for row in rows("format") if row[0] in ROWS], ids=lambda row: row[0])
def test_a_row_of_the_page(row: list[str], native: State, tmp_path: Path) -> None:
    """The tensors that the page names are there, and memory is as it says."""
    name, _, known_by, memory = row
    state, header = SPELLINGS[ROWS[name]][0](native)
    ends = {key.rpartition(".")[2] for key in state} | {key.partition(".weight.")[2] for key in state}
    for word in re.findall(r"`([\w.]+)`", known_by.partition(", or")[0].partition(" or ")[0]):
        assert word in ends, word
    if "no hint" in known_by:
        assert "comfy_quant" not in ends
    made = loaded(write((state, header), tmp_path / "flux.safetensors"))
    kinds = {parameter.dtype for parameter in made.transformer_blocks.parameters()}
    assert (kinds == {torch.float32}) == (memory == "in the run's dtype")


def test_types_of_gguf_on_the_page() -> None:
    told = {kind for kinds, loads in rows("type of GGUF") if loads == "yes" for kind in kinds.split(", ")}
    assert told == {*GGUF, "F32"}
