"""Read one model of FLUX from a single file, under the names of diffusers and transformers."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.conversion import architecture, autoencoder, key_map, state_dict
from backbones.conversion.weights import Weights, open_weights
from editkit.errors import EditkitError

PREFIXES = {
    "transformer": ("model.diffusion_model.", "diffusion_model."),
    "vae": ("vae.", "first_stage_model."),
    "text_encoder": ("text_encoders.clip_l.transformer.", "clip_l.transformer."),
    "text_encoder_2": ("text_encoders.t5xxl.transformer.", "t5xxl.transformer."),
}
"""Prefixes of a model's tensor names, in files of one model or of all of them."""
ALL_PREFIXES = (*(prefix for each in PREFIXES.values() for prefix in each), "text_encoders.")
"""Prefixes of all models' tensor names in a file that holds several models."""
UNUSED = {
    "text_encoder": (
        r"text_projection\.weight|logit_scale|embeddings\.position_ids|vision_model\..*|visual_projection\..*"
    ),
    "text_encoder_2": r"decoder\..*|dec\..*|lm_head\.weight|output\.weight|logit_scale|spiece_model",
}
"""Patterns of tensors in encoders' files that FLUX does not use: the other half of CLIP and of T5,
projections."""
T5_EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")
"""T5's two names of its embedding."""


class ComponentTensors(Mapping[str, Any]):
    """The tensors of one model under other names; each is read from the file when it is looked up.

    Args:
        weights: the file's tensors.
        names: the file's name of each tensor, by its new name.
    """

    def __init__(self, weights: Weights, names: Mapping[str, str]) -> None:
        self._weights, self._names = weights, names
        self.exact = weights.exact

    def __getitem__(self, name: str) -> Any:
        return self._weights[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def layout(self) -> dict[str, Tensor]:
        """Return tensors of the same shapes on the meta device, without reading values."""
        return {name: self.on_meta(name) for name in self}

    def on_meta(self, name: str) -> Tensor:
        """Return a tensor of the same shape on the meta device, without reading values."""
        return self._weights.on_meta(self._names[name])

    def packed_bytes(self, name: str) -> float | None:
        """Return the bytes of a tensor that can stay quantized, with its scales; None for any other."""
        return self._weights.packed_bytes(self._names[name])

    def place(self, name: str) -> str | None:
        """Return the file's name of a tensor that safetensors reads as it is; None for any other."""
        own = self._names[name]
        return own if self._weights.is_plain(own) else None


@contextmanager
def open_component(path: Path, name: str) -> Iterator[ComponentTensors]:
    """Open a file of one model or of several, and give the tensors of one model without their prefix.

    Args:
        path: a .safetensors or .gguf file.
        name: the model: a key of `PREFIXES`.

    Raises:
        EditkitError: where the file is damaged or of another kind.
    """
    with ExitStack() as stack:
        weights = open_weights(path, stack)
        names = list(weights)
        prefix = next((each for each in PREFIXES[name] if any(n.startswith(each) for n in names)), "")
        # A name of no known model stays, so that it is refused later.
        own = [n for n in names if (prefix and n.startswith(prefix)) or not n.startswith(ALL_PREFIXES)]
        renamed = {n.removeprefix(prefix): n for n in own}
        if len(renamed) < len(own):
            raise EditkitError(
                f"{path.name} has some tensors twice, with and without {prefix}; keep one of each."
            )
        yield ComponentTensors(weights, renamed)


def read_transformer(path: Path, axes: tuple[int, ...] | None) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Read a transformer in Black Forest Labs' or diffusers' naming.

    Returns:
        diffusers' config, the tensors under diffusers' names, and `Weights.exact`.

    Raises:
        EditkitError: where the file is damaged or holds no FLUX transformer, or its axes cannot be inferred.
    """
    with open_component(path, "transformer") as found:
        layout = found.layout()
        if any(name.startswith(key_map.DIFFUSERS[0]) for name in layout):
            config = architecture.infer_config(state_dict.diffusers_to_native(layout), axes)
            return config, {name: found[name] for name in found}, found.exact
        config = architecture.infer_config(layout, axes)
        return config, dict(state_dict.split_native(found)), found.exact


def locate_transformer(
    path: Path, axes: tuple[int, ...] | None
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, list[tuple[str, int, int]]]] | None:
    """Say where in a safetensors file a transformer's rows are, in Black Forest Labs' or diffusers' naming.

    Returns:
        diffusers' config; under diffusers' names the tensors on the meta device, and the rows that they
        consist of, as in `state_dict.native_rows`. None where some are quantized, or the file is of another
        kind.

    Raises:
        EditkitError: as `read_transformer`, and where GGUF's blocks of values would be cut into shards.
    """
    with open_component(path, "transformer") as found:
        if path.suffix == ".gguf" and any(map(found.packed_bytes, found)):
            raise EditkitError(
                f"{path.name} is quantized, and GGUF's blocks cannot be cut into shards; take fp8 or NF4"
            )
        own, layout = {name: found.place(name) for name in found}, found.layout()
    if None in own.values():
        return None
    if any(name.startswith(key_map.DIFFUSERS[0]) for name in layout):
        config = architecture.infer_config(state_dict.diffusers_to_native(layout), axes)
        rows = {name: [(name, 0, len(tensor))] for name, tensor in layout.items()}
    else:
        config = architecture.infer_config(layout, axes)
        rows, layout = dict(state_dict.native_rows(layout)), state_dict.native_to_diffusers(layout)
    places = {name: [(str(own[key]), a, b) for key, a, b in each] for name, each in rows.items()}
    return config, layout, places


def read_vae(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Read an autoencoder in Black Forest Labs' or diffusers' naming; return tensors under diffusers' names.

    Args:
        path: the file.
        config: config of diffusers' AutoencoderKL.

    Raises:
        EditkitError: where the file is damaged or holds no autoencoder of FLUX.
    """
    with open_component(path, "vae") as found:
        state = {name: found[name] for name in found}
    if any(name.startswith("decoder.up_blocks.") for name in state):
        return state
    try:
        return autoencoder.native_to_diffusers(state, config)
    except EditkitError as error:
        raise EditkitError(f"{path.name}: {error}") from error


def read_clip(path: Path) -> tuple[dict[str, Any], bool]:
    """Read CLIP's text model; return tensors under transformers' names, and `Weights.exact`."""
    with open_component(path, "text_encoder") as found:
        names = {name.removeprefix("text_model."): name for name in found}
        return _without_unused(found, names, "text_encoder"), found.exact


def read_t5(path: Path, names: Iterable[str], layers: int) -> tuple[dict[str, Any], bool]:
    """Read T5's encoder in transformers' or llama.cpp's naming.

    Args:
        path: the file.
        names: transformers' names of the encoder's tensors.
        layers: number of the encoder's blocks.

    Returns:
        The tensors under transformers' names, and `Weights.exact`.

    Raises:
        EditkitError: where the file is damaged, or holds two different embeddings.
    """
    with open_component(path, "text_encoder_2") as found:
        spoken = _llama_cpp_names(names, layers) if any(name.startswith("enc.") for name in found) else {}
        own = {spoken.get(name, name): name for name in found}
        state = _without_unused(found, own, "text_encoder_2")
        exact = found.exact
    first, second = T5_EMBEDDING
    if first in state and second in state and not _same(state[first], state[second]):
        raise EditkitError(f"{path.name} has two embeddings, {first} and {second}, that differ; T5 has one.")
    return state, exact


def _llama_cpp_names(names: Iterable[str], layers: int) -> dict[str, str]:
    """Return transformers' names by llama.cpp's names."""
    import gguf

    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, layers)
    return {str(table.get_name(name, (".weight", ".bias"))): name for name in names}


def _without_unused(found: ComponentTensors, names: Mapping[str, str], part: str) -> dict[str, Any]:
    """Read the tensors that FLUX uses, under their new names."""
    return {new: found[old] for new, old in names.items() if not re.fullmatch(UNUSED[part], new)}


def _same(one: Any, other: Any) -> bool:
    """Whether two tensors have the same type and values."""
    return type(one) is type(other) and bool(torch.equal(torch.as_tensor(one), torch.as_tensor(other)))
