"""A decoder that learns from what the methods' edits end at."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from editkit import config, registry
from editkit.backbone import Backbone
from editkit.data.datasets import dataset
from editkit.data.records import DataConfig
from editkit.editor import Editor
from editkit.errors import EditkitError
from editkit.shapesworld.recipes import final_latents
from editkit.shapesworld.recipes.final_latents import EndingsConfig
from editkit.train.loop import fit
from tests import ROOT

VAE = ROOT / "backbones/tiny/kontext/vae"
ASKED = EndingsConfig(data=DataConfig(start=2_000_000, count=2, kinds={"add": 1.0}), steps=1)


@pytest.fixture(scope="module")
def editor(tiny: Backbone) -> Editor:
    return Editor(tiny)


@pytest.mark.parametrize("method", registry.method_names())
def test_endings_decode_to_the_edits(method: str, editor: Editor, tmp_path: Path) -> None:
    tokens_NLC, answers_NCHW = final_latents.recorded(method, ASKED, tmp_path)
    records = [dataset(ASKED.data)[place] for place in range(2)]
    asked = [record.request(method, ASKED.data.start + place, 1) for place, record in enumerate(records)]
    decoded_NCHW = editor.backbone.decode(tokens_NLC, 128, 128)
    for place, result in enumerate(editor.edit_many(asked)):
        assert np.array_equal(answers_NCHW[place].permute(1, 2, 0), records[place].answer)
        made_HWC = torch.from_numpy(np.asarray(result.image, dtype=np.float32) / 255)
        difference = (decoded_NCHW[place].permute(1, 2, 0) - made_HWC).abs()
        assert difference.mean() < 0.005  # tokens are kept in bf16
        assert (made_HWC - answers_NCHW[place].permute(1, 2, 0) / 255).abs().mean() > 2 * difference.mean()


def test_references_are_left_out_of_the_panel(tmp_path: Path) -> None:
    kinds = DataConfig(name="shapesworld masked", start=2_000_000, count=1, kinds={"character": 1.0})
    tokens_NLC, answers_NCHW = final_latents.recorded("aceplus", replace(ASKED, data=kinds), tmp_path)
    assert (len(tokens_NLC[0]), answers_NCHW[0].shape) == (64, (3, 128, 128))


def test_endings_are_recorded_once(tmp_path: Path) -> None:
    first = final_latents.recorded("kontext", ASKED, tmp_path)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    again = final_latents.recorded("kontext", ASKED, tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert ([kept], written) == (list(tmp_path.iterdir()), kept.stat().st_mtime_ns)
    final_latents.recorded("kontext", replace(ASKED, steps=2), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_decoder_learns_from_endings(tmp_path: Path) -> None:
    module = registry.recipe("autoencoder")
    settings = config.build(
        module.CONFIG,
        {
            "start": str(VAE),
            "start_share": 0.5,
            "decoder_only": True,
            "endings": {"kontext": {"data": {"start": 2_000_000, "count": 2}, "steps": 1}},
            "cache": str(tmp_path / "cache"),
            "fit": {"output": str(tmp_path / "run"), "steps": 4, "batch": 4, "device": "cpu"},
        },
        ["fit.precision=fp32", "fit.optim.lr=1e-4", "fit.optim.warmup=0"],
    )
    job = module.JOB(settings)
    pixels_BCHW, latents_NChw = job.batch(range(4))
    assert (len(pixels_BCHW), len(latents_NChw)) == (4, 3)
    again_BCHW, _ = job.batch(range(2, 4))
    assert torch.equal(again_BCHW, pixels_BCHW[1:3])  # a sample depends on its index alone
    before = job.objective((pixels_BCHW[:3], latents_NChw)).item()
    fit(job, settings.fit)
    assert job.objective((pixels_BCHW[:3], latents_NChw)).item() < before
    trained, old = (
        AutoencoderKL.from_pretrained(path).state_dict() for path in (tmp_path / "run/export/vae", VAE)
    )
    moved = {name for name in old if not torch.equal(old[name], trained[name])}
    assert "decoder.conv_in.weight" in moved
    assert all(name.startswith("decoder.") for name in moved)
    now = job.vae.state_dict()
    middle = {name: (now[name] + old[name].float()) / 2 for name in old}
    assert all(torch.allclose(trained[name].float(), middle[name], atol=1e-6, rtol=8e-3) for name in old)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"endings": {"kontext": {}}}, "set decoder_only"),
        ({"endings_share": 2.0}, r"endings_share must lie in \[0, 1\], not 2"),
        ({"start_share": 0.5}, "start_share needs a start"),
        ({"endings": {"kontext": {"steps": 0}}}, "endings.steps must be at least 1"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(EditkitError, match=message):
        config.build(registry.recipe("autoencoder").CONFIG, values)


def test_endings_of_an_unknown_method(tmp_path: Path) -> None:
    with pytest.raises(EditkitError, match="There is no method 'kontex'"):
        final_latents.recorded("kontex", ASKED, tmp_path)
