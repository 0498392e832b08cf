"""Name the columns of known datasets."""

from collections.abc import Mapping, Sequence
from typing import Any

from editkit.data.records import DataConfig
from editkit.errors import EditkitError, unknown

Rows = Sequence[Mapping[str, Any]]
"""Rows of a dataset: values by column."""

FIELDS = ("answer", "instruction", "source", "mask", "references", "kind", "task")
COLUMNS: dict[str, dict[str, str]] = {
    "editkit": {name: name for name in FIELDS},
    "csv": {
        "source": "edit_image",
        "mask": "edit_mask",
        "references": "ref_image",
        "answer": "target_image",
        "instruction": "prompt",
        "kind": "data_type",
    },
    "magicbrush": {
        "source": "source_img",
        "mask": "mask_img",
        "answer": "target_img",
        "instruction": "instruction",
    },
    "omniedit": {
        "source": "src_img",
        "answer": "edited_img",
        "instruction": "edited_prompt_list",
        "kind": "task",
    },
    "instructpix2pix": {
        "source": "original_image",
        "answer": "edited_image",
        "instruction": "edit_prompt",
    },
    "relighting": {"source": "file_name", "answer": "output", "instruction": "instruction"},
    "diffsynth": {"source": "kontext_images", "answer": "image", "instruction": "prompt"},
}
"""Column of each field, by preset; relighting is the kontext-community's dataset on the Hub."""

CUT_OUT = ("magicbrush",)
"""Presets whose masks are the source picture, transparent where the edit lies."""


def columns(config: DataConfig) -> dict[str, str]:
    """Return the column of each of a record's fields in a config's dataset; an empty name leaves a field out.

    Raises:
        EditkitError: for an unknown preset or field.
    """
    preset = config.preset or ("csv" if config.name == "csv" else "editkit")
    if preset not in COLUMNS:
        raise EditkitError(unknown("preset of columns called", preset, COLUMNS))
    if unknown_fields := [field for field in config.columns if field not in FIELDS]:
        raise EditkitError(unknown("field of a record called", unknown_fields[0], FIELDS))
    return {field: column for field, column in (COLUMNS[preset] | config.columns).items() if column}
