"""Define a training pair for all methods, and the settings of a dataset."""

import math
import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editkit import registry
from editkit.errors import EditkitError
from editkit.types import EditRequest

FILES = ("jsonl", "csv", "table", "folders", "webdataset", "huggingface")
NAMES = ("shapesworld", "shapesworld masked", *FILES)
OF_FILES = ("path", "preset", "columns", "folders")
"""Settings that say where records are in files, which ShapesWorld has none of."""
OF_LAYOUTS = {"folders": "folders", "fields": "csv", "split": "huggingface", "streaming": "huggingface"}
"""Name of the dataset that alone uses a setting."""
STRETCH = 0.01
"""Largest relative difference between the aspect ratios of one record's pictures."""
DRAWN = 10_000
"""Number of records that are taken from an endless dataset if no number is given."""
FIELDS = ("edit_image", "edit_mask", "ref_image", "target_image", "prompt", "data_type")
"""Order of the fields in the released CSV files."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One training pair; pictures are uint8 HWC.

    Attributes:
        answer: the edited picture.
        instruction: the edit in words; without a source, the caption of the answer.
        source: the picture before the edit; None for text to image.
        mask: uint8 HW, 255 where the edit lies.
        references: further pictures.
        kind: sort of edit.
        task: the method's task that it is for; None to let the method choose.
        transparent: number of pixels that were not opaque, and are on white now.
        notes: remarks in plain words on what was assumed about the pictures.
        wordings: all wordings of the instruction, where there are several; a run draws one each time.
    """

    answer: NDArray[np.uint8]
    instruction: str
    source: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    references: tuple[NDArray[np.uint8], ...] = ()
    kind: str = ""
    task: str | None = None
    transparent: int = 0
    notes: tuple[str, ...] = ()
    wordings: tuple[str, ...] = ()

    @property
    def all_wordings(self) -> tuple[str, ...]:
        """All wordings of the instruction, one at least."""
        return self.wordings or (self.instruction,)

    def stretched(self) -> str | None:
        """Describe both sizes if the aspect ratios of source and answer differ by more than rounding."""
        if self.source is None:
            return None
        (tall, wide), (high, broad) = self.source.shape[:2], self.answer.shape[:2]
        # A side that was rounded is off by half a pixel, and so is the other.
        rounding = max(STRETCH, 1 / min(tall, wide, high, broad))
        if abs(wide * high / (tall * broad) - 1) <= rounding:
            return None
        return f"source {wide}x{tall}, answer {broad}x{high}"

    def request(self, method: str, seed: int, steps: int | None = None) -> EditRequest:
        """Build the request that asks a method for this answer; the task only if the method has tasks."""
        height, width = self.answer.shape[:2]
        return EditRequest(
            image=None if self.source is None else Image.fromarray(self.source),
            instruction=self.instruction,
            method=method,
            task=self.task if registry.method(method).tasks else None,
            mask=None if self.mask is None else Image.fromarray(self.mask),
            references=[Image.fromarray(reference) for reference in self.references],
            seed=seed,
            steps=steps,
            size=None if self.source is not None else (width, height),
        )


class UnreachableError(EditkitError):
    """Records that cannot be fetched now; they may be good, so that no run leaves them out."""


def is_url(path: str) -> bool:
    """Whether a dataset's path is a URL, such as s3://bucket/folder."""
    return "://" in path


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Settings of a dataset of training pairs."""

    name: str = "shapesworld"
    """`shapesworld`: its edits and captions; `shapesworld masked`: edits under a mask, from references and in
    diptychs. Files: `jsonl`, one object a line; `csv`, fields between `#;#`; `table`, comma- or tab-separated
    under names; `folders`, answers with captions and sources of the same stem, several with numbers;
    `webdataset`, tar shards; `huggingface`: parquet, arrow, Hub id."""
    count: int | None = None
    """Number of records, the first ones of a file. null: all of a file; 10,000 of ShapesWorld or with
    `streaming`."""
    start: int | None = None
    """First seed of ShapesWorld. null: its first seed for training."""
    kinds: dict[str, float] = field(default_factory=dict)
    """Weight of each kind of edit; `caption` is text to image, `open` an instruction that leaves something
    open, `compound` two or three edits in one instruction. `shapesworld masked` has groups of kinds: a
    group's name stands for its usual ones, `diptych/replace` for one. Empty: all other kinds alike."""
    path: str | None = None
    """The file or folder; paths of pictures are relative to the folder. For `webdataset`, and for parquet
    files of `huggingface`, also a URL that fsspec opens, such as s3://bucket/folder. For `webdataset`, also a
    pattern, such as pairs/{00000..00099}.tar.gz."""
    preset: str | None = None
    """Names of the columns: editkit, csv, magicbrush, omniedit, instructpix2pix, relighting or diffsynth."""
    columns: dict[str, str] = field(default_factory=dict)
    """Column of a record's field, if it is another than the preset's; an empty name leaves the field out."""
    text_to_image: bool = False
    """Learn records that have neither a source nor references from their words alone. Where false, they are
    errors, unless an empty name in `columns` leaves the source out."""
    folders: dict[str, str] = field(default_factory=dict)
    """Folders below `path` of answer, source, mask and instruction, if they have other names."""
    split: str = "train"
    """Split of a Hugging Face dataset."""
    streaming: bool = False
    """Take the first `count` records of a Hugging Face dataset and do not fetch the rest; they are held in
    memory as they are in its files."""
    fields: tuple[str, ...] = FIELDS
    """Order of the fields of a `csv`."""
    types: tuple[str, ...] = ()
    """Regular expressions; a record is used if its kind (data_type) matches one. Empty: all records."""
    tasks: dict[str, str] = field(default_factory=dict)
    """Task of the method for each kind in a file; for other kinds, the method chooses by what is given."""
    crop: str = "none"
    """`none`: a picture of another shape than the canvas is padded, and the padding is learnt, too; `centre`:
    source, answer and mask are cropped to the shape of the nearest size that the network was trained at."""

    cut_bottom: float = 0.0
    """Share of the height that is cut off the bottom of source, answer and mask, before `crop` and
    `stretch`."""
    stretch: tuple[int, int] | None = None
    """Width and height that source, answer and mask are stretched to, whatever their shape; null to keep
    it."""

    def __post_init__(self) -> None:
        if not 0 <= self.cut_bottom < 1:
            raise ValueError(f"data.cut_bottom must lie in [0, 1), not {self.cut_bottom}")
        if self.stretch is not None and (min(self.stretch) < 1 or self.crop != "none"):
            raise ValueError(
                f"data.stretch must be a width and a height, without crop, not {list(self.stretch)}"
            )
        if self.crop not in ("none", "centre"):
            raise ValueError(f"data.crop must be none or centre, not {self.crop!r}")
        if self.name not in NAMES:
            raise ValueError(f"data.name must be one of {', '.join(NAMES)}, not {self.name!r}")
        if self.name not in FILES and (given := [name for name in OF_FILES if getattr(self, name)]):
            raise ValueError(
                f"data.{given[0]} is for files, and data.name={self.name} draws its pictures; give "
                f"data.name, one of {', '.join(FILES)}, or leave data.{given[0]} out"
            )
        try:
            list(map(re.compile, self.types))
        except re.error as error:
            raise ValueError(
                f"data.types has {error.pattern!r}, which is not a regular expression: {error}"
            ) from error
        if self.count is not None and self.count < 1:
            raise ValueError(f"data.count must be at least 1, not {self.count}")
        if self.kinds and not (min(self.kinds.values()) >= 0 and 0 < sum(self.kinds.values()) < math.inf):
            raise ValueError(f"data.kinds must be weights that are not negative nor all 0, not {self.kinds}")

    def unused(self) -> list[str]:
        """Return a sentence for each setting that was given, and that this dataset does not use."""
        return [
            f"data.{name} is for data.name={layout}; data.name={self.name} does not use it."
            for name, layout in OF_LAYOUTS.items()
            if self.name != layout and getattr(self, name) != getattr(DEFAULTS, name)
        ]


DEFAULTS = DataConfig()


@dataclass(frozen=True, kw_only=True)
class MixedConfig:
    """Settings of a further dataset of a run."""

    data: DataConfig = field(default_factory=DataConfig)
    weight: float = 1.0
    """Relative number of batches from it; the run's own `data` has 1."""
    prior: bool = False
    """Learn the untrained model's own predictions instead of these answers (prior preservation), so that the
    model keeps what it knows."""
    loss_weight: float = 1.0
    """Factor on the loss of its batches. A prior's loss is small, and needs a factor of 10 to 100."""
    changed_weight: float | None = None
    """`changed_weight` of its batches; the run's own where null. 1 where many answers fit an instruction."""

    def __post_init__(self) -> None:
        for name in ("weight", "loss_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"a mixture's {name} must be positive, not {getattr(self, name)}")
        if self.changed_weight is not None and not 0 < self.changed_weight < math.inf:
            raise ValueError(f"a mixture's changed_weight must be positive, not {self.changed_weight}")
