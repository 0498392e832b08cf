"""Find results that were made elsewhere, under the names of the benchmark's own layout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from editkit.errors import EditkitError
from editkit.evaluation.benchmarks import Benchmark
from editkit.evaluation.chunks import Share, Watch, chunks
from editkit.evaluation.records import Edit, Item
from editkit.evaluation.run_folder import RunFolder, news
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
        EditkitError: where a folder holds no result of the benchmark.
    """
    for method, where in config.results.items():
        root = Path(where).resolve()
        done = {item for (name, item), edit in logged.items() if name == method and edit.error is None}
        found = bool(done)
        for chunk in chunks(benchmark.items(config.limit), config.batch_size, share):
            members = [member for session in chunk for member in session]
            edits = [_found(method, place, item, root) for place, item in members if item.id not in done]
            found = found or any(edit.error is None for edit in edits)
            folder.log_edits(news(edits, logged))
            watch(len(members))
        if not found and share.world == 1:
            example = next((item.published for item in benchmark.items() if isinstance(item, Item)), "")
            raise EditkitError(f"{where} holds no result of {benchmark.config.name}, such as {example}.")


def _found(method: str, place: int, item: Item, root: Path) -> Edit:
    published = root / item.published
    for path in (published, *(published.with_suffix(suffix) for suffix in SUFFIXES)):
        if os.path.isfile(path):  # not Path.is_file, which raises where a name is too long
            return Edit(method=method, item=item.id, place=place, picture=str(path))
    return Edit(method=method, item=item.id, place=place, error=f"There is no result at {item.published}.")
