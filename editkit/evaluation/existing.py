"""Find results that were made elsewhere, under the names of the benchmark's own layout."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Set
from pathlib import Path

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import Benchmark
from editkit.evaluation.chunks import Share, Watch, chunks
from editkit.evaluation.records import Edit, Item
from editkit.evaluation.run_folder import RunFolder, news, settled
from editkit.evaluation.settings import RunConfig

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_folders(results: Mapping[str, str]) -> None:
    """Check that the folders of results are there.

    Raises:
        EditkitError: where one is missing.
    """
    for where in results.values():
        if not Path(where).is_dir():
            raise EditkitError(
                f"There is no folder of results at {where}; give --results of one that exists."
            )


def find_all(
    benchmark: Benchmark,
    config: RunConfig,
    folder: RunFolder,
    share: Share,
    logged: Mapping[tuple[str, str], Edit],
    watch: Watch,
) -> None:
    """Log where each result is; one that is missing is a failure of its method, and looked for again.

    Raises:
        EditkitError: where a folder holds no result of the benchmark, or a result is another one than scored.
    """
    digests = folder.digests()
    scored = {(line["method"], line["item"]) for line in folder.scores() if settled(line.get("scores") or {})}
    for method, where in config.results.items():
        root = Path(where).resolve()
        done = {item for (name, item), edit in logged.items() if name == method and edit.error is None}
        found = bool(done)
        for chunk in chunks(benchmark.items(config.limit), config.batch_size, share):
            members = [member for session in chunk for member in session]
            edits = [_found(method, place, item, root) for place, item in members]
            found = found or any(edit.error is None for edit in edits)
            changed = [edit for edit in edits if edit.item not in done or _replaced(edit, digests, scored)]
            folder.log_edits(news(changed, logged))
            watch(len(members))
        if not found and share.world == 1:
            example = next((item.published for item in benchmark.items() if isinstance(item, Item)), "")
            raise EditkitError(f"{where} holds no result of {benchmark.config.name}, such as {example}.")


def _found(method: str, place: int, item: Item, root: Path) -> Edit:
    published = root / item.published
    for path in (published, *(published.with_suffix(suffix) for suffix in SUFFIXES)):
        if os.path.isfile(path):  # not Path.is_file, which raises where a name is too long
            digest = _digest(path)
            return Edit(method=method, item=item.id, place=place, picture=str(path), digest=digest)
    return Edit(method=method, item=item.id, place=place, error=f"There is no result at {item.published}.")


def _replaced(edit: Edit, digests: Mapping[tuple[str, str], Set[str]], scored: Set[tuple[str, str]]) -> bool:
    """Whether a picture is another one than an earlier call found, which older logs do not tell.

    Raises:
        EditkitError: where that one was scored: its figures would stand for this one.
    """
    key = edit.method, edit.item
    before = digests.get(key)
    if edit.digest is None or before is None or edit.digest in before:
        return False
    if key in scored:
        raise EditkitError(
            f"The result of {edit.item} in {edit.picture} has changed since this run scored it; choose "
            "another --out, which scores all results anew."
        )
    return True


def _digest(path: Path) -> str | None:
    """A digest of a file's bytes; None where it cannot be read, which its scores tell."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return None
