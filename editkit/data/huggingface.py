"""Read the rows of a Hugging Face dataset: parquet, arrow, a folder of pictures, or a Hub id."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from editkit.data.columns import Rows
from editkit.data.records import DRAWN, DataConfig, is_url
from editkit.errors import EditkitError, first_sentence

BUILDERS = {".parquet": "parquet", ".arrow": "arrow"}


def rows(path: Path, config: DataConfig) -> Rows:
    """Load the rows of a file, folder or Hub id; with `data.streaming`, the first ones only.

    Raises:
        EditkitError: if the package is missing, or the dataset cannot be loaded.
    """
    try:
        import datasets
    except ImportError as error:
        raise EditkitError("data.name=huggingface needs a package: pip install 'editkit[train]'.") from error
    problems = (OSError, ValueError, datasets.exceptions.DatasetsError)
    try:
        found = _load(path, config)
    except ImportError as error:  # of a file system
        problem = first_sentence(error)
        raise EditkitError(f"The dataset {config.path} needs a package ({problem}); install it.") from error
    except problems as error:
        problem = first_sentence(error)
        raise EditkitError(
            f"The dataset {config.path} cannot be loaded ({problem}); check the path."
        ) from error
    for name, feature in (found.features or {}).items():
        # Pictures are decoded when their record is read.
        if isinstance(feature, datasets.Image):
            found = found.cast_column(name, datasets.Image(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            found = found.cast_column(name, type(feature)(datasets.Image(decode=False)))
    try:
        taken: Rows = list(found.take(config.count or DRAWN)) if config.streaming else found
    except problems as error:
        raise EditkitError(f"The dataset {config.path} cannot be read ({first_sentence(error)}).") from error
    labels = {
        name: feature
        for name, feature in (found.features or {}).items()
        if isinstance(feature, datasets.ClassLabel)
    }
    return LabelledRows(taken, labels) if labels else taken


class LabelledRows(Sequence[Mapping[str, Any]]):
    """Rows whose class labels are given by name; the dataset keeps them as numbers."""

    def __init__(self, rows: Rows, labels: Mapping[str, Any]) -> None:
        self.rows, self.labels = rows, labels
        self._fingerprint = getattr(rows, "_fingerprint", None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: Any) -> Any:
        row = dict(self.rows[place])
        for name, feature in self.labels.items():
            # An absent label is None, or -1 as in test sets.
            row[name] = feature.int2str(row[name]) if (row[name] or 0) >= 0 and row[name] is not None else ""
        return row


def _load(path: Path, config: DataConfig) -> Any:
    import datasets

    where = config.path if config.path and is_url(config.path) else str(path)
    if (builder := BUILDERS.get(path.suffix.lower())) is not None:
        return datasets.load_dataset(builder, data_files=where, split="train", streaming=config.streaming)
    if (path / "dataset_info.json").is_file() and (path / "state.json").is_file():
        return datasets.load_from_disk(where)
    return datasets.load_dataset(where, split=config.split, streaming=config.streaming)
