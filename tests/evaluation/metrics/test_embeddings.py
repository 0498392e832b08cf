"""CLIP and DINO by small random weights in their real classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import (
    AutoImageProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    ViTConfig,
    ViTModel,
)

from editkit.errors import EditkitError
from editkit.evaluation.metrics import AbsentMetricError, load_metric
from tests.evaluation.metrics.cases import case, noise

LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *(f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz")]


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP as the Hub has it: weights, image processor, tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokens = ["<|startoftext|>", "<|endoftext|>", *LETTERS]
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(tokens), "bos_token_id": 0, "eos_token_id": 1, "max_position_embeddings": 16}
    config = CLIPConfig(
        text_config=small | text,
        vision_config=small | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: n for n, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    _processor(folder, "CLIPImageProcessor", {"shortest_edge": 32})
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32,
        patch_size=8,
    )  # fmt: skip
    ViTModel(config).save_pretrained(folder)
    _processor(folder, "ViTImageProcessor", {"height": 32, "width": 32})
    return folder


def _processor(folder: Path, kind: str, size: dict[str, int]) -> None:
    told = {
        "image_processor_type": kind,
        "do_resize": True,
        "size": size,
        "resample": 3,
        "do_center_crop": kind.startswith("CLIP"),
        "crop_size": {"height": 32, "width": 32},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48, 0.46, 0.41],
        "image_std": [0.27, 0.26, 0.28],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(told))


def test_clip_agrees_with_the_models_own_features(clip_folder: Path) -> None:
    metric = load_metric("clip", {"model": str(clip_folder)})
    result, answer, source = noise(0), noise(1), noise(2)
    found = metric.score(
        case(result, answer=answer, source=source, source_caption="a cat", answer_caption="a dog")
    ).values
    model = CLIPModel.from_pretrained(clip_folder).eval()
    processor, tokenizer = (
        AutoImageProcessor.from_pretrained(clip_folder),
        CLIPTokenizer.from_pretrained(clip_folder),
    )
    with torch.no_grad():
        outputs = model(
            **processor(images=[Image.fromarray(p) for p in (result, answer, source)], return_tensors="pt"),
            **tokenizer(["a cat", "a dog"], return_tensors="pt", padding=True),
        )
    pictures, words = outputs.image_embeds, outputs.text_embeds

    def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
        return F.cosine_similarity(first, second, dim=-1).item()

    assert found["clip_i"] == pytest.approx(cosine(pictures[0], pictures[1]), abs=1e-4)
    assert found["source_clip_i"] == pytest.approx(cosine(pictures[0], pictures[2]), abs=1e-4)
    assert found["clip_t"] == pytest.approx(cosine(pictures[0], words[1]), abs=1e-4)
    direction = cosine(pictures[0] - pictures[2], words[1] - words[0])
    assert found["clip_dir"] == pytest.approx(direction, abs=1e-4)


def test_clip_identity_and_what_is_absent(clip_folder: Path) -> None:
    metric = load_metric("clip", {"model": str(clip_folder)})
    picture = noise()
    found = metric.score(case(picture, answer=picture, source=picture)).values
    assert found == {"clip_i": pytest.approx(1, abs=1e-5), "source_clip_i": pytest.approx(1, abs=1e-5)}
    assert set(metric.score(case(picture, answer_caption="a dog")).values) == {"clip_out"}
    assert not metric.score(case(picture)).values


def test_long_captions_are_cut(clip_folder: Path) -> None:
    metric = load_metric("clip", {"model": str(clip_folder)})
    first = metric.score(case(noise(), answer_caption="word " * 300)).values["clip_out"]
    assert first == metric.score(case(noise(), answer_caption="word " * 400)).values["clip_out"]


def test_dino_agrees_with_the_models_own_token(dino_folder: Path) -> None:
    metric = load_metric("dino", {"model": str(dino_folder)})
    result, answer = noise(0), noise(1)
    found = metric.score(case(result, answer=answer, source=result)).values
    model, processor = (
        ViTModel.from_pretrained(dino_folder).eval(),
        AutoImageProcessor.from_pretrained(dino_folder),
    )
    with torch.no_grad():
        states = model(**processor(images=[result, answer], return_tensors="pt")).last_hidden_state[:, 0]
    assert found["dino"] == pytest.approx(F.cosine_similarity(states[0], states[1], dim=0).item(), abs=1e-5)
    assert found["source_dino"] == pytest.approx(1, abs=1e-5)


def test_figures_say_what_they_depend_on(clip_folder: Path) -> None:
    told = load_metric("clip", {"model": str(clip_folder)}).describe()
    assert told["model"] == str(clip_folder)
    assert told["revision"].startswith("sha256 ")
    assert told["preprocessing"]["crop_size"] == {"height": 32, "width": 32}
    assert json.loads(json.dumps(told)) == told


def test_absent_weights_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(AbsentMetricError, match="nobody/nothing is not on this machine; get it with"):
        load_metric("clip", {"model": "nobody/nothing"})
    with pytest.raises(AbsentMetricError, match="cannot be loaded"):
        load_metric("dino", {"model": str(tmp_path)})
    with pytest.raises(EditkitError, match="Unknown key 'modle'"):
        load_metric("dino", {"modle": "x"})


def test_pickled_weights_are_refused(dino_folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((dino_folder / name).read_bytes())
    torch.save(ViTModel.from_pretrained(dino_folder).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(AbsentMetricError, match="cannot be loaded"):
        load_metric("dino", {"model": str(tmp_path)})


def test_arrays_are_left_alone(dino_folder: Path) -> None:
    picture = noise()
    before = picture.copy()
    load_metric("dino", {"model": str(dino_folder)}).score(case(picture, source=picture))
    np.testing.assert_array_equal(picture, before)
