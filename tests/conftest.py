"""One thread for everything, and small backbones of random weights in which every input matters."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from editkit.backbone import Backbone, provider
from tests import ROOT
from tests.cases import Place
from tests.command_line import Cli, in_process
from tests.random_weights import CLIP, LETTERS, T5, autoencoder, liven, transformer_config

# Convolutions as small as these run hundreds of times slower on several threads of a busy machine.
torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs an accelerator where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("There is no CUDA device here, and this test needs one.")


def pytest_collection_finish() -> None:
    """Keep what is imported out of garbage collection, which would look through all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Undo what a test, or what it calls, changes for the whole process."""
    dtype, grad, threads = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    torch.set_grad_enabled(grad)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def random_flux():
    """A family of random weights with every role that a family of `specs` has; `text` is `kontext`."""
    from diffusers import FluxTransformer2DModel

    from backbones import random_encoders
    from backbones.flux import Flux
    from backbones.specs import FAMILIES, Family, Role

    channels = {name: role.in_channels for family in FAMILIES.values() for name, role in family.roles.items()}
    roles = {
        name: Role(
            source=f"random-{'kontext' if name == 'text' else name}",
            in_channels=in_channels,
            steps=4,
            guidance=1.5,
            sizes=((128, 128),),
            area=128 * 128,
            licence="none",
        )
        for name, in_channels in channels.items()
    }
    family = Family(name="random", summary="random weights", sequence_length=48, roles=roles)
    flux = Flux(family, torch.device("cpu"), torch.float32)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        words = (ROOT / "configs" / "tiny" / "words.txt").read_text().split()
        encoders = random_encoders.random_encoders(
            words, letters=LETTERS, clip=CLIP, t5=T5, length=family.sequence_length
        )
        for model in (encoders.clip, encoders.t5):
            liven(model)
            model.requires_grad_(False)
        vae = autoencoder()
        for role in roles.values():
            transformer = FluxTransformer2DModel.from_config(transformer_config(role.in_channels)).eval()
            liven(transformer)
            flux.set_components(role.source, transformer.requires_grad_(False), vae, encoders)
    return flux


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """The embedded backbone, which all tests share: leave its weights and lists of adapters as they were."""
    return provider().load("tiny", "cpu")


@pytest.fixture(scope="session")
def random_pipeline(random_flux, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a diffusers FluxKontextPipeline folder; to be read only."""
    folder = tmp_path_factory.mktemp("pipeline") / "kontext"
    random_flux.save("kontext", folder)
    return folder


@pytest.fixture(scope="session")
def random_text_pipeline(random_flux, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a FluxPipeline folder, which makes pictures from words alone; to be read only."""
    folder = tmp_path_factory.mktemp("pipeline") / "text"
    random_flux.save("text", folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    return folder


@pytest.fixture(scope="session")
def vae(random_flux, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its autoencoder; to be read only."""
    folder = tmp_path_factory.mktemp("vae")
    random_flux.vae.save_pretrained(folder)
    return folder


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line in this process."""
    return in_process(capfd, monkeypatch)


@pytest.fixture
def place(tmp_path: Path, random_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A folder to work in, and a backbone."""
    monkeypatch.chdir(tmp_path)
    return Place(folder=tmp_path, backbone=random_pipeline)


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights on this machine, no proxy."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
