"""How each dataset names its columns."""

from editkit.data.records import DataConfig
from editkit.errors import EditkitError, unknown

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
"""Columns of known datasets, by the record's fields; relighting is the kontext-community's on the Hub."""

CUT_OUT = ("magicbrush",)
"""Presets whose masks are the source with the place of the edit cut out: it is what is clear."""


def columns(config: DataConfig) -> dict[str, str]:
    """The columns of a config's dataset, by the record's fields.

    Raises:
        EditkitError: for an unknown preset or field.
    """
    preset = config.preset or ("csv" if config.name == "csv" else "editkit")
    if preset not in COLUMNS:
        raise EditkitError(unknown("preset of columns called", preset, COLUMNS))
    if strange := [field for field in config.columns if field not in FIELDS]:
        raise EditkitError(unknown("field of a record called", strange[0], FIELDS))
    return COLUMNS[preset] | config.columns
