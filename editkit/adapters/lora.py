"""LoRA adapters through peft: attach, load, save, eject; for any diffusers transformer."""

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from editkit import atomic_files
from editkit.adapters.files import FILE, METADATA, file, read_adapter
from editkit.adapters.lora_options import LoraOptions
from editkit.adapters.peft_layers import deactivate, is_name, layers, set_dropout, unwrap
from editkit.backbone import Transformer, provider
from editkit.errors import EditkitError, first_sentence

PREFIX = "transformer."
"""Before a module's name in diffusers' layout."""


def attach(transformer: Transformer, options: LoraOptions, name: str = "default") -> None:
    """Add a new LoRA that has no effect yet and is the only part that trains.

    Raises:
        EditkitError: where no module's name ends in a target, or a DoRA cannot read a target's weight.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    lora = LoraConfig(
        r=options.rank,
        rank_pattern=dict(options.ranks),
        lora_alpha=options.alpha or options.rank,
        # alpha grows with the rank, so that the scale stays the same.
        alpha_pattern={
            name: (options.alpha or options.rank) * (rank / options.rank) ** (0.5 if options.rslora else 1)
            for name, rank in options.ranks.items()
        },
        lora_dropout=options.dropout,
        target_modules=list(options.targets),
        exclude_modules=options.exclude,
        use_rslora=options.rslora,
        use_dora=options.dora,
        init_lora_weights="gaussian",
    )
    if options.dora:
        provider().lora.check_dora(transformer, lambda key: bool(check_target_module_exists(lora, key)))
    transformer.requires_grad_(False)
    try:
        with _no_peft_warnings():
            transformer.add_adapter(lora, adapter_name=name)
    except (ValueError, re.error) as error:  # the latter for lora.exclude
        raise EditkitError(f"The adapter cannot be attached: {first_sentence(error)}.") from error
    adapted = [key for key, layer in transformer.named_modules() if name in getattr(layer, "r", ())]
    for end in options.ranks:
        if not any(re.fullmatch(rf"(.*\.)?({end})", key) for key in adapted):
            eject(transformer, name)
            raise EditkitError(f"lora.ranks names {end}, which lora.targets does not; name it in both.")
    provider().refresh_offload_groups(transformer)


def resume(transformer: Transformer, path: str | Path, name: str = "default") -> None:
    """Load a LoRA and make it the only part that trains.

    A LoRA of FLUX.1 Fill fits ACE++'s wider input: its weights for the additional channels start at zero.

    Raises:
        EditkitError: where `load_adapter` raises it.
    """
    transformer.requires_grad_(False)
    load_adapter(transformer, path, name, widen=True)
    unfreeze(transformer, name)
    if not any(parameter.requires_grad for parameter in transformer.parameters()):
        eject(transformer, name)
        raise EditkitError(
            f"The adapter {file(path)} is not a LoRA, so it cannot be trained further; give a LoRA or DoRA."
        )


def unfreeze(transformer: Transformer, name: str) -> None:
    """Make a LoRA's weights trainable."""
    for key, parameter in transformer.named_parameters():
        if ".lora_" in key and f".{name}" in key:
            parameter.requires_grad_(True)


def load_adapter(transformer: Transformer, path: str | Path, name: str, *, widen: bool = False) -> None:
    """Load an adapter file of any dialect, or a folder with one, under a name, next to others.

    Args:
        transformer: a FluxTransformer2DModel.
        path: the file or folder.
        name: what it is called from now on.
        widen: fit a LoRA of FLUX.1 Fill to ACE++'s wider input.

    Raises:
        EditkitError: where the file is missing, is no adapter in safetensors, or does not fit.
    """
    (state, about), formats, what = read_adapter(path), provider().lora, f"The adapter {file(path)}"
    if not is_name(name):
        raise EditkitError(
            f"{what} cannot be called {name!r}, which torch does not allow; give another name."
        )
    try:
        with _no_peft_warnings():
            done = formats.load_lycoris(transformer, state, about, name)
        plain, told = (state, about) if done else formats.convert_to_diffusers(state, about)
    except EditkitError as error:
        raise EditkitError(f"{what} cannot be loaded: {error}") from error
    if done:
        provider().refresh_offload_groups(transformer)
        return
    if widen:
        plain = formats.widen_lora(plain, transformer.config.in_channels)
    install(transformer, plain, name, told, what)


def install(
    transformer: Transformer,
    state: Mapping[str, Any],
    name: str,
    about: Mapping[str, str],
    what: str = "The adapter",
) -> None:
    """Add a LoRA's tensors to a transformer.

    Args:
        transformer: any diffusers transformer.
        state: tensors by key, in diffusers' layout.
        name: of the adapter.
        about: metadata of the file that they are from.
        what: they are called in errors.

    Raises:
        EditkitError: where the tensors do not fit.
    """
    try:
        provider().lora.check_fit(transformer, state)
    except EditkitError as error:
        raise EditkitError(f"{what} does not fit this transformer: {error}") from error
    if name in _configs(transformer):
        raise EditkitError(
            f"{what} does not fit this transformer: it has an adapter {name!r} already; give another name."
        )
    try:
        config = json.loads(about.get(METADATA, "null"))
        with _no_peft_warnings():
            transformer.load_lora_adapter(
                dict(state), prefix=PREFIX.rstrip("."), adapter_name=name, metadata=config
            )
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        eject(transformer, name)  # diffusers leaves layers behind
        problem = first_sentence(error)
        raise EditkitError(f"{what} does not fit this transformer ({problem}).") from error
    set_dropout(transformer, name)
    landed = {key for key, layer in transformer.named_modules() if name in getattr(layer, "r", ())}
    if lost := [key for key in state if key.removeprefix(PREFIX).partition(".lora_")[0] not in landed]:
        eject(transformer, name)
        raise EditkitError(f"{what} does not fit this transformer: peft left {lost[0]} out.")
    provider().refresh_offload_groups(transformer)


def save(transformer: Transformer, folder: Path, name: str = "default") -> Path:
    """Write a LoRA in diffusers' layout, whole or not at all; the file's metadata hold its LoraConfig."""
    from safetensors.torch import save_file

    about = metadata(transformer, name) | {"format": "pt"}
    with atomic_files.beside(folder / FILE) as partial:
        save_file(state(transformer, name), partial, metadata=about)
    return folder / FILE


def state(transformer: Transformer, name: str) -> dict[str, Any]:
    """Return a LoRA's tensors by key, in diffusers' layout."""
    from peft.utils import get_peft_model_state_dict

    with _no_peft_warnings():  # it takes biases, which have one axis, for shards of a matrix
        tensors = get_peft_model_state_dict(transformer, adapter_name=name)
    # peft also lists the tensors of other kinds of adapters.
    return {
        f"{PREFIX}{key}": value.detach().cpu().contiguous()
        for key, value in tensors.items()
        if ".lora_" in key
    }


def metadata(transformer: Transformer, name: str) -> dict[str, str]:
    """Return a LoRA's LoraConfig as metadata of a file, in diffusers' form."""
    config = _plain(_configs(transformer)[name].to_dict())
    about = {f"{PREFIX}{key}": value for key, value in config.items()}
    return {METADATA: json.dumps(about, sort_keys=True)}


def eject(transformer: Transformer, name: str) -> None:
    """Remove a LoRA; the base weights are bit-identical to before, and no other adapter becomes active."""
    deactivate(transformer, name)
    transformer.delete_adapters(name)
    unwrap(transformer)
    if not _configs(transformer) and not layers(transformer):
        transformer.unload_lora()
    provider().refresh_offload_groups(transformer)


def _configs(transformer: Transformer) -> Mapping[str, Any]:
    """Return peft's LoraConfig by adapter; a transformer without adapters may lack the attribute."""
    found: Mapping[str, Any] = getattr(transformer, "peft_config", {})
    return found


@contextmanager
def _no_peft_warnings() -> Iterator[None]:
    """Silence peft's warnings on adapters, names and shapes, which editkit checks itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="peft")
        yield


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Turn a LoraConfig's values into JSON's types: sets become lists."""
    return {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in values.items()
        if isinstance(value, str | int | float | bool | list | set | dict | type(None))
    }
