"""ACE++'s loss, and its trainings from one stage to the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import editkit
from backbones.flux import Flux
from editkit import EditkitError, adapters, config, flow
from editkit.train.finetune import EditJob
from editkit.train.loop import fit
from editkit.train.settings import EditTrainConfig
from methods.aceplus import METHOD
from tests import ROOT
from tests.methods.aceplus.plans import conditioner, inputs
from tests.pictures import difference, image, photo

WEIGHTS = "diffusion_pytorch_model.safetensors"


@torch.no_grad()
@pytest.mark.parametrize("layout", ["canvas", "sequence"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_mean_for_each_unit(random_flux: Flux, layout: str, count: int) -> None:
    """Equation 6: the references' mean errors and the target's are added."""
    given = inputs(references=(photo(384, 128, 1), photo(128, 128, 2))[:count])
    made = conditioner(random_flux, layout=layout)
    plan = made.plan_without_text(given)
    trainer = METHOD.trainer(random_flux, made.config)
    rows, columns = 8, [*[24, 8][:count], 8]
    error_BLC = torch.rand(1, rows * sum(columns), 64)
    found = flow.loss(error_BLC.sqrt(), torch.zeros_like(error_BLC), trainer.weights(plan, given))
    units = error_BLC[0].unflatten(0, (rows, -1)).split(columns, dim=1)
    assert float(found) == pytest.approx(sum(float(unit.mean()) for unit in units), rel=1e-4)


@torch.no_grad()
def test_weight_under_the_mask(random_flux: Flux) -> None:
    given = inputs(mask=True, references=(photo(384, 128, 1),))
    plan = conditioner(random_flux).plan_without_text(given)

    def weights(**options: Any) -> Tensor | None:
        trainer = METHOD.trainer(random_flux, config.build(METHOD.config, options))
        found = trainer.weights(plan, given)
        return None if found is None else found[0].unflatten(0, (8, 32))

    assert weights(loss="released") is None
    for loss, total in (("released", 1), ("paper", 2)):
        heavy = weights(loss=loss, mask_weight=3.0)
        assert float(heavy.sum()) == pytest.approx(total, abs=1e-3)
        assert torch.allclose(heavy[:4, 24:26], 3 * heavy[5, 30], rtol=1e-3)
        assert heavy[:, :24].unique().numel() == 1


def trained(tmp_path: Path, output: str, name: str, *overrides: str) -> Path:
    """What a shipped config exports after a step on four pictures."""
    values = config.read_yaml(ROOT / "configs" / "tiny" / name) | {
        "load": {},
        "cache": str(tmp_path / "cache"),
    }
    # Muon multiplies in bf16, for which many CPUs have no instructions.
    few = (
        "fit.optim.name=adamw",
        "fit.steps=1",
        "fit.batch=2",
        "data.count=4",
        f"fit.output={tmp_path / output}",
        "fit.device=cpu",
    )
    settings = config.build(EditTrainConfig, values, (*few, *overrides))
    fit(EditJob(settings), settings.fit)
    return tmp_path / output / "export"


def test_records_have_an_instruction_for_each_unit(tmp_path: Path) -> None:
    image(64, 64).save(tmp_path / "picture.png")
    record = {"source": "picture.png", "answer": "picture.png", "references": ["picture.png"]}
    data = tmp_path / "train.jsonl"

    def train(output: str, *instructions: str) -> Path:
        data.write_text("\n".join(json.dumps(record | {"instruction": words}) for words in instructions))
        options = "options={layout: sequence, unit_prompts: true}"
        return trained(
            tmp_path, output, "aceplus-subject.yaml", options, f"data={{name: jsonl, path: {data}}}"
        )

    assert train("lines", "a red circle\nput it there", "a star\nput it there").exists()
    with pytest.raises(EditkitError, match="instruction has 1 of 2 lines"):
        train("line", "put it there", "put it there")


def test_a_second_stage_goes_on_from_the_first(tmp_path: Path) -> None:
    """From text to image to Fill's channels, then references too, by canvas and by sequence."""
    first = trained(tmp_path, "first", "aceplus-stage1.yaml") / "fill"
    for layout in ("canvas", "sequence"):
        second = trained(
            tmp_path, layout, "aceplus-stage2.yaml", f"backbone={first}", f"options.layout={layout}",
            "data.kinds={character: 1, instruction: 1}",
        ) / "fill"  # fmt: skip
        editor = editkit.load(str(second), "cpu", options={"aceplus": {"layout": layout}})
        made = editor.edit(image(128, 128), "red", "aceplus", references=[image(128, 128, 1)], steps=1)
        assert made.image.size == (128, 128)
        started = load_file(first / "transformer" / WEIGHTS)
        moved = load_file(second / "transformer" / WEIGHTS)
        assert started.keys() == moved.keys()
        assert not torch.equal(started["x_embedder.weight"], moved["x_embedder.weight"])


def test_an_input_layer_and_a_lora_train_together(tmp_path: Path) -> None:
    """On Fill behind a wider input, which is what the result is loaded on."""
    lora = "lora={rank: 4, targets: [x_embedder, attn.to_q], ranks: {x_embedder: 192}}"
    optim = ("fit.steps=2", "fit.ema=0", "fit.optim={lr: 0.3}")
    made = trained(tmp_path, "run", "aceplus-full.yaml", "adapter=null", "start=fill", lora, *optim)
    state = load_file(made / adapters.FILE)
    assert state["transformer.x_embedder.lora_A.weight"].shape == (192, 448)
    change = state["transformer.x_embedder.lora_B.weight"] @ state["transformer.x_embedder.lora_A.weight"]
    assert (change[:, 128:192] != 0).any()
    options = {"model": "full", "adapter": None}
    editor = editkit.load("tiny", "cpu", options={"aceplus": options}, transformer={"ace": "fill"})
    before, mask = editor.edit(image(128, 128), "red", "aceplus", steps=1), Image.new("L", (128, 128), 255)
    editor.load_adapter(made, "aceplus")
    after = editor.edit(image(128, 128), "red", "aceplus", steps=1, mask=mask)
    assert difference(before.image, after.image) > 1
    card = (made / "README.md").read_text()
    assert "'model': 'full'" in card
    assert "Base: " in card
