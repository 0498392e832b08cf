"""The Python API: load a backbone, edit with any method by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit import registry
from editkit.backbone import provider
from editkit.editor import Editor
from editkit.errors import EditkitError

if TYPE_CHECKING:
    import torch

    from editkit.backbone import Family
    from editkit.config import Options
    from editkit.method import Method
    from editkit.sessions.replay import Replay
    from editkit.sessions.session import Session
    from editkit.sessions.store import Turn
    from editkit.types import ImageInput


def load(
    backbone: str = "tiny",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    lora: Mapping[str, float] | None = None,
    **loading: Any,
) -> Editor:
    """Load a backbone by name, local diffusers folder or Hub id. Its weights load when first needed.

    Args:
        backbone: a name from `backbones()`, a folder, or a Hub id.
        device: cpu, cuda, mps; the best one present where None.
        dtype: float32, bfloat16 or float16; fp32 on a CPU and bf16 elsewhere where None.
        options: options by method name.
        lora: scales of adapters that every method uses in addition to its own, by file, folder or Hub id.
        loading: the backbone's own options, see `backbones.load_options.LoadOptions`.

    Raises:
        EditkitError: for an unknown name, device, dtype or option.
    """
    return Editor(provider().load(backbone, device, dtype, loading), options, lora)


def load_session(folder: str | Path, editor: Editor | None = None) -> Session:
    """Load a session from its folder, at the turn that was current.

    Args:
        folder: the session's folder.
        editor: makes the edits from now on. Where None, the backbone of the newest recipe is loaded, with
            each method's last used options; the embedded backbone where there is no recipe.

    Raises:
        EditkitError: where a file is missing or damaged, or the backbone cannot be loaded.
    """
    from editkit.sessions import session

    return session.load_session(folder, lambda turns: editor or _of_turns(turns))


def replay(
    path: str | Path,
    *,
    image: ImageInput | None = None,
    mask: ImageInput | None = None,
    references: Sequence[ImageInput] = (),
    device: str | None = None,
    lora: Mapping[str, float] | None = None,
    editor: Editor | None = None,
) -> Replay:
    """Make a picture again from its recipe, and compare the two.

    Args:
        path: a PNG that editkit wrote.
        image: its source, where that is no longer where the recipe says, nor beside the picture.
        mask: its mask, likewise.
        references: all its references, likewise.
        device: where to; the recipe's where it is there, else the best one.
        lora: its adapters with their scales, where their files are no longer where the recipe says.
        editor: makes it; where None, the recipe's backbone with its options and adapters.

    Raises:
        EditkitError: where the picture holds no recipe of an edit, its inputs cannot be found or have other
            hashes, or the edit cannot be carried out here.
    """
    from editkit.sessions import replay as replays

    return replays.replay(
        path,
        image=image,
        mask=mask,
        references=references,
        editor=lambda recipe: editor or _of_recipe(recipe, device, lora),
    )


def methods() -> tuple[Method[Options], ...]:
    """Return the records of all methods."""
    return tuple(registry.method(name) for name in registry.method_names())


def backbones() -> tuple[Family, ...]:
    """Return the records of all backbones, with their roles and licences."""
    return tuple(provider().families.values())


def _of_turns(turns: Sequence[Turn]) -> Editor:
    recipes = [turn.recipe for turn in turns if "backbone" in turn.recipe]
    if not recipes:
        return load()
    options = {recipe["method"]: recipe["options"] for recipe in recipes}
    last = recipes[-1]
    return load(last["backbone"], options=options, lora=last.get("lora"), **last.get("loading", {}))


def _of_recipe(recipe: Mapping[str, Any], device: str | None, lora: Mapping[str, float] | None) -> Editor:
    """The recipe's backbone, on its device where that is here."""
    options, loading = {recipe["method"]: recipe["options"]}, dict(recipe.get("loading") or {})
    lora = lora or recipe.get("lora")
    dtype, recorded = recipe["precision"], str(recipe.get("device") or "").partition(":")[0] or None
    if device is None and recorded is not None:
        with suppress(EditkitError):  # whatever else than the device is wrong is said again
            return load(recipe["backbone"], recorded, dtype, options=options, lora=lora, **loading)
    return load(recipe["backbone"], device, dtype, options=options, lora=lora, **loading)
