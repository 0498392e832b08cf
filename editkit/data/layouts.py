"""Find the function that reads the rows of each layout of files and folders."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from editkit.data import folders, huggingface, tables, text_files, webdataset
from editkit.data.columns import Rows
from editkit.data.records import DataConfig

LAYOUTS: dict[str, Callable[[Path, DataConfig], Rows]] = {
    "jsonl": text_files.json_lines,
    "csv": text_files.separated,
    "table": tables.table,
    "folders": folders.rows,
    "webdataset": webdataset.rows,
    "huggingface": huggingface.rows,
}
LENIENT: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {
    "jsonl": text_files.lenient_json_lines,
    "table": tables.lenient_table,
}
"""Readers of layouts by name, whose wrong rows are `BadRow`, not errors."""


def column_names(rows: Rows) -> set[str] | None:
    """Return the columns that any row has; None if only reading the records would tell."""
    if (known := getattr(getattr(rows, "rows", rows), "column_names", None)) is not None:
        return set(known)
    if isinstance(rows, webdataset.ShardRows):
        return None
    return {name for row in rows for name in row}
