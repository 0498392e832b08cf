"""Find or download an adapter of the Hub: its file, and the config that peft writes beside it."""

import warnings
from pathlib import Path, PurePosixPath

from backbones import hub, hub_cache, refusals
from editkit import adapters
from editkit.adapters.files import PEFT_CONFIG, PEFT_FILE
from editkit.errors import EditkitError, EditkitWarning, unknown


def fetch(repository: str, name: str | None = None) -> Path:
    """Return an adapter's file, in the Hub's cache or downloaded, with peft's config beside it if it has one.

    Args:
        repository: a Hub id.
        name: path of the file in the repository; None for the one that diffusers or peft name so, or for the
            only one.

    Raises:
        EditkitError: where it cannot be obtained, or there are several.
    """
    name = name or _choose(repository)
    folder = hub.fetch(repository, None, [name])
    file = folder / name
    if file.is_file() and not file.with_name(PEFT_CONFIG).is_file():
        _fetch_config(repository, folder, name)
    return file


def _choose(repository: str) -> str:
    """Choose the adapter's file of a repository; what is in the cache needs no answer of the Hub."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = hub_cache.snapshot(repository)
        cached = [] if folder is None else [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
        named = [name for name in (adapters.FILE, PEFT_FILE) if name in cached]
        online = not named and hub.is_reachable()
        found = cached if not online else HfApi().list_repo_files(repository)
    except HFValidationError as error:
        raise EditkitError(
            unknown("adapter", repository, ["a file, a folder", "an id of the Hub"])
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise EditkitError(refusals.refused(repository, None, error)) from error
    named = [name for name in (adapters.FILE, PEFT_FILE) if name in found]
    files = named[:1] or sorted(name for name in found if adapters.is_adapter(name))
    if len(files) == 1:
        return files[0]
    if not online and not files:
        raise EditkitError(refusals.unreachable(repository, None, []))
    if not files:
        raise EditkitError(f"{repository} on the Hub holds no .safetensors file; give the id of an adapter.")
    some = ", ".join(files[:3])
    raise EditkitError(
        f"{repository} on the Hub holds {len(files)} adapter files ({some}); name one as "
        f"hf://{repository}/FILE."
    )


def _fetch_config(repository: str, folder: Path, name: str) -> None:
    """Download the config beside an adapter's file of a snapshot, unless the Hub said that there is none."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    config = str(PurePosixPath(name).with_name(PEFT_CONFIG))
    commit = folder.name
    if try_to_load_from_cache(repository, config, revision=commit) is not None:
        return  # it is here, or known not to exist
    if hub.is_reachable():
        try:
            hf_hub_download(repository, config, revision=commit)
        except LocalEntryNotFoundError as error:  # raised where the Hub does not answer after all
            raise EditkitError(refusals.refused(repository, None, error)) from error
        except EntryNotFoundError:
            pass  # there is none, which the cache remembers
        except (HfHubHTTPError, OSError) as error:
            raise EditkitError(refusals.refused(repository, None, error)) from error
        return
    if PurePosixPath(name).name == PEFT_FILE:
        raise EditkitError(refusals.unreachable(repository, None, [config]))
    if not _says_alpha(folder / name):
        warnings.warn(
            f"The Hub cannot be asked whether {repository} has {config}; without it, alpha is the rank.",
            EditkitWarning,
            stacklevel=2,
        )


def _says_alpha(file: Path) -> bool:
    """Whether a file says its alpha itself; a damaged one is reported when it is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            names = list(opened.keys())
            about = opened.metadata() or {}
    except (SafetensorError, OSError):
        return True
    return adapters.METADATA in about or any(name.endswith(".alpha") for name in names)
