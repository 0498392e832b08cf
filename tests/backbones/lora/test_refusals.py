"""LoRA files, options and destinations that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.lora import dialect_writer
from backbones.lora.low_rank import LowRankUpdate
from editkit import adapters
from editkit.adapters import METADATA
from tests.backbones.lora.updates import State, drawn
from tests.command_line import Cli, files, refused


def edited(path: Path, change: Callable[[State], State], about: dict[str, str] | None = None) -> Path:
    state, told = adapters.read_adapter(path)
    save_file(change(state), path, told if about is None else about)
    return path


def replaced(end: str, change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda state: {k: change(t) if k.endswith(end) else t for k, t in state.items()}


X = "transformer.x_embedder.lora_"

DAMAGE: dict[str, tuple[Callable[[State], State], str]] = {
    "NaN": (replaced("x_embedder.lora_B.weight", lambda t: t * float("nan")), "not finite"),
    "ranks": (replaced("x_embedder.lora_B.weight", lambda t: t[:, :2].contiguous()), "ranks differ"),
    "half": (lambda state: {k: t for k, t in state.items() if k != f"{X}A.weight"}, "lacks its down matrix"),
    "vector": (replaced("x_embedder.lora_B.weight", lambda t: t[:, 0].contiguous()), "ranks differ"),
    "no LoRA": (lambda _: {"x_embedder.weight": torch.ones(2, 2)}, "no LoRA of FLUX.*x_embedder.weight"),
    "empty": (lambda _: {}, "no LoRA of FLUX"),
    "another model": (lambda _: {"unet.down.lora_A.weight": torch.ones(2, 2)}, "diffusers or kohya or bfl"),
    "two dialects": (
        lambda state: state | {"lora_unet_img_in.lora_down.weight": torch.ones(2, 2)},
        "diffusers and kohya",
    ),
    "twice": (
        lambda state: state | {"x_embedder.lora_A.weight": torch.ones(2, 2)},
        "x_embedder is in the file twice",
    ),
}


@pytest.mark.parametrize(
    ("command", "name"),
    [*(("inspect", name) for name in DAMAGE), ("convert", "NaN"), ("convert", "half"), ("collapse", "ranks")],
)
def test_damaged_files(cli: Cli, plain: Path, tmp_path: Path, name: str, command: str) -> None:
    change, words = DAMAGE[name]
    edited(plain, change)
    before = files(tmp_path)
    rest = {"inspect": [], "convert": [tmp_path / "new.safetensors", "--to", "kohya"]}
    refused(cli("lora", command, plain, *rest.get(command, [tmp_path / "new.safetensors"])), words)
    assert files(tmp_path) == before


def test_widths_that_differ(cli: Cli, plain: Path) -> None:
    edited(plain, replaced("proj_mlp.lora_A.weight", lambda tensor: tensor[:, :8].contiguous()))
    refused(cli("lora", "inspect", plain), "is for a transformer 64 wide.*for one 8 wide")
    refused(cli("lora", "convert", plain, plain.parent / "n.safetensors", "--to", "bfl"), "differ in width")
    fused = {"lora_unet_single_blocks_0_linear1.lora_down.weight": torch.ones(2, 8),
             "lora_unet_single_blocks_0_linear1.lora_up.weight": torch.ones(55, 2)}  # fmt: skip
    edited(plain, lambda _: fused, {})
    refused(cli("lora", "inspect", plain), "55 rows, which is not a multiple of 7")


@pytest.mark.parametrize("extra", ["dora_scale", "lora_B.bias", "lora_A.expert_0.weight"])
def test_what_has_no_place_is_not_dropped(cli: Cli, plain: Path, extra: str) -> None:
    edited(plain, lambda state: state | {f"transformer.proj_out.{extra}": torch.ones(64)})
    run = cli("lora", "convert", plain, plain.parent / "new.safetensors", "--to", "comfyui")
    refused(run, "collapse` first" if "expert" in extra else "give a plain LoRA")
    assert extra in run.err


@pytest.mark.parametrize(
    ("command", "content"),
    [
        *(("inspect", content) for content in (None, b"", b"no safetensors", b"\xff" * 64)),
        ("convert", None),
        ("collapse", b""),
    ],
)
def test_no_file(cli: Cli, tmp_path: Path, content: bytes | None, command: str) -> None:
    source = tmp_path / "source.safetensors"
    if content is not None:
        source.write_bytes(content)
    rest = {"inspect": [], "convert": [tmp_path / "new.safetensors", "--to", "kohya"]}
    run = cli("lora", command, source, *rest.get(command, [tmp_path / "new.safetensors"]))
    refused(run, "cannot be read" if content is not None else "exists")


def test_a_truncated_file(cli: Cli, plain: Path) -> None:
    plain.write_bytes(plain.read_bytes()[:-100])
    refused(cli("lora", "inspect", plain), "cannot be read")


def test_destinations(cli: Cli, plain: Path, moe: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    before = files(tmp_path)
    for name, words in (
        ("new.bin", "does not end in .safetensors"),
        ("no/new.safetensors", "does not exist; make it first"),
        ("folder.safetensors", "is a folder"),
    ):
        refused(cli("lora", "convert", plain, tmp_path / name, "--to", "bfl"), words)
        refused(cli("lora", "collapse", moe, tmp_path / name), words)
    refused(
        cli("lora", "convert", plain, tmp_path / "n.safetensors", "--to", "xlabs"), "give one of diffusers, "
    )
    refused(cli("lora", "convert", plain, tmp_path / "n.safetensors"), "--to")
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--way", "mean"], "svd or average"),
        (["--rank", "0"], "at least 1"),
        (["--way", "average", "--rank", "2"], "leave rank out"),
        (["--weights", "none.json"], "cannot be read; give JSON"),
        (["--weights", "broken.json"], "is no JSON"),
        (["--weights", "list.json"], "holds something else"),
        (["--weights", "nan.json"], "holds something else"),
        (["--weights", "strange.json"], "names proj_out, which has no experts"),
        (["--weights", "few.json"], "do not fit"),
    ],
)
def test_bad_collapses(cli: Cli, moe: Path, tmp_path: Path, options: list[str], words: str) -> None:
    contents = {
        "broken": "{", "list": "[1]", "nan": '{"transformer_blocks.0.ff.net.2": [NaN, 1, 1]}',
        "strange": '{"proj_out": [1]}', "few": '{"transformer_blocks.0.ff.net.2": [1]}',
    }  # fmt: skip
    for name, text in contents.items():
        (tmp_path / f"{name}.json").write_text(text)
    options = [str(tmp_path / each) if each.endswith(".json") else each for each in options]
    refused(cli("lora", "collapse", moe, tmp_path / "new.safetensors", *options), words)
    assert not (tmp_path / "new.safetensors").exists()


def test_collapse_wants_sound_experts(cli: Cli, moe: Path, plain: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.safetensors"
    refused(cli("lora", "collapse", plain, new), "no experts in it; give a LoRA-MoE")
    edited(moe, replaced("0.ff.net.2.lora_A.expert_1.weight", lambda tensor: tensor * float("inf")))
    refused(cli("lora", "collapse", moe, new), "not finite")
    edited(moe, lambda state: state, {"icedit_moe": "{"})
    refused(cli("lora", "collapse", moe, new), "not finite|cannot be read; remove")


@pytest.mark.parametrize("lost", [".lora_route.weight", ".lora_B.expert_1.weight", ".lora_A.expert_0.weight"])
def test_inspect_sees_what_is_missing(cli: Cli, moe: Path, lost: str) -> None:
    edited(moe, lambda state: {k: t for k, t in state.items() if not k.endswith(f"0.ff.net.2{lost}")})
    refused(cli("lora", "inspect", moe), "has another number of experts than its router")


def test_bad_metadata(cli: Cli, plain: Path) -> None:
    for told in ("{", "[]", '{"transformer.lora_alpha": "four"}', '{"transformer.use_dora": true}'):
        edited(plain, lambda state: state, {METADATA: told})
        refused(cli("lora", "inspect", plain), "metadata .* cannot be read|DoRA")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["=0.5"], "names no file with a scale; give FILE=SCALE"),
        (["{plain}=nan"], "names no file with a scale"),
        (["{plain}=half"], r"=half is not a \.safetensors file that exists"),
        (["{wider}"], "cannot be merged: .* has another size"),
        (["{moe}"], "cannot be merged: .*collapse` first"),
        (["{plain}", "--rank", "0"], "rank=0 is not allowed"),
    ],
)
def test_a_merge_refuses(
    cli: Cli, plain: Path, moe: Path, flux: nn.Module, more: list[str], words: str, tmp_path: Path
) -> None:
    wider = {
        name: LowRankUpdate(down_rI=u.down_rI.repeat(1, 2), up_Or=u.up_Or, alpha=1)
        for name, u in drawn(flux).items()
    }
    save_file(dialect_writer.to_dialect(wider, "diffusers")[0], tmp_path / "wider.safetensors")
    names = {"plain": plain, "moe": moe, "wider": tmp_path / "wider.safetensors"}
    sources = [each.format(**names) for each in more]
    new = tmp_path / "new.safetensors"
    refused(cli("lora", "merge", plain, sources[0], new, *sources[1:]), words)
    assert not new.exists()
