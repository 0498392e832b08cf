"""Check a dataset before a run: find records that are unreadable, repeated or inconsistent."""

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from editkit.data.datasets import Dataset
from editkit.data.records import Record, UnreachableError
from editkit.errors import EditkitError
from editkit.imaging import canvas, images, registration
from editkit.imaging.contact_sheet import groups

ERRORS = ("unreadable", "sizes differ", "shifted", "scaled", "no caption")
WARNINGS = (
    "no source",
    "nothing changes",
    "twice",
    "change outside the mask",
    "mask without change",
    "long caption",
    "transparent",
    "picture",
)
"""Problems of records: `ERRORS` should stop a run, `WARNINGS` may be intended."""
SHIFT, SCALE = 1.5, 0.01
"""Largest shift in pixels, and largest relative scale, between source and answer."""
OUTSIDE = 0.25
"""Largest share of the changed pixels that may lie outside a mask."""
WORDS = 300
"""Most words of a caption that is not long."""
SHOWN = 12
"""Most records on the contact sheet."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem of one record."""

    index: int
    problem: str
    detail: str
    weight: float = 0.0
    """Severity among findings with the same problem."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of checking a dataset.

    Attributes:
        count: number of checked records.
        findings: in the order of the records.
        sizes: number of records by width and height of the answer.
        kinds: number of records by kind.
        pictures: title, answer and source of the worst records.
    """

    count: int
    findings: tuple[Finding, ...]
    sizes: dict[tuple[int, int], int]
    kinds: dict[str, int]
    pictures: tuple[tuple[str, Image.Image, Image.Image | None], ...] = field(repr=False)

    def problems(self) -> dict[str, int]:
        """Count the records by problem, errors first."""
        counted = Counter(finding.problem for finding in self.findings)
        return {problem: counted[problem] for problem in (*ERRORS, *WARNINGS) if counted[problem]}

    @property
    def failed(self) -> bool:
        """Whether there are errors."""
        return any(problem in ERRORS for problem in self.problems())

    def summary(self) -> dict[str, Any]:
        """Return everything but the pictures, in JSON's types."""
        return {
            "records": self.count,
            "sizes": {f"{width}x{height}": count for (width, height), count in self.sizes.items()},
            "kinds": self.kinds,
            "problems": self.problems(),
            "findings": [
                {"index": found.index, "problem": found.problem, "detail": found.detail}
                for found in self.findings
            ],
        }

    def sheet(self) -> Image.Image | None:
        """Draw source and answer of the worst records under their problem; None if there is no problem."""
        shown = [(title, [source, answer]) for title, answer, source in self.pictures]
        return groups(shown, ("source", "answer"))


def check_dataset(
    dataset: Dataset, limit: int | None = None, watch: Callable[[int], None] | None = None
) -> Check:
    """Check the first `limit` records, or all of them if None; `watch` gets 1 for each.

    Raises:
        UnreachableError: where a record cannot be fetched.
    """
    count = min(len(dataset), limit or len(dataset))
    findings: list[Finding] = []
    sizes: Counter[tuple[int, int]] = Counter()
    kinds: Counter[str] = Counter()
    seen: dict[bytes, int] = {}
    lonely: list[int] = []
    for index in range(count):
        if watch:
            watch(1)
        try:
            record = dataset[index]
        except UnreachableError:
            raise
        except EditkitError as error:
            findings.append(Finding(index=index, problem="unreadable", detail=str(error)))
            continue
        height, width = record.answer.shape[:2]
        sizes[width, height] += 1
        kinds[record.kind or "(none)"] += 1
        if record.source is None and not record.references:
            lonely.append(index)
        digest = _digest(record)
        if digest in seen:
            detail = f"the same as record {seen[digest]}"
            findings.append(Finding(index=index, problem="twice", detail=detail))
        seen.setdefault(digest, index)
        findings += [Finding(index=index, problem=p, detail=d, weight=w) for p, d, w in problems(record)]
    if len(lonely) < sizes.total():  # a dataset of captioned pictures alone is meant so
        detail = "it is learnt as text to image, unlike others"
        findings += [Finding(index=index, problem="no source", detail=detail) for index in lonely]
    return Check(
        count=count,
        findings=tuple(sorted(findings, key=lambda found: found.index)),
        sizes=dict(sizes.most_common()),
        kinds=dict(kinds.most_common()),
        pictures=tuple(_worst(dataset, findings)),
    )


def problems(record: Record) -> list[tuple[str, str, float]]:
    """Find the problems of one record: problem, detail and severity."""
    worded = [problem for words in record.all_wordings for problem in _caption_problems(words)]
    found = worded[:1] + _reading_problems(record)
    if record.source is None:
        return found
    if sizes := record.stretched():
        return [*found, ("sizes differ", sizes, 1.0)]
    answer_1CHW = images.tensor(images.Picture(rgb=record.answer))
    source_1CHW = canvas.resize(images.tensor(images.Picture(rgb=record.source)), *answer_1CHW.shape[:-3:-1])
    change_11HW = canvas.change_mask(source_1CHW, answer_1CHW)
    if not change_11HW.any():
        # With a task, source and answer may be equal: the method removes what is to be restored.
        return found if record.task else [*found, ("nothing changes", "no pixel changes visibly", 1.0)]
    moved = registration.measure(source_1CHW, answer_1CHW)
    if moved is not None and moved.shift > SHIFT:
        detail = f"by {moved.right:+.1f}, {moved.down:+.1f} pixels"
        found.append(("shifted", detail, moved.shift))
    scale = 0.0 if moved is None else max(abs(moved.wider - 1), abs(moved.taller - 1))
    # In a small picture, a scale of one in a hundred cannot be told from a changed shape.
    if moved is not None and scale > SCALE and moved.stretch(*answer_1CHW.shape[:-3:-1]) > SHIFT:
        found.append(("scaled", f"by {moved.wider:.3f}, {moved.taller:.3f}", scale))
    if record.mask is not None:
        found += _mask_problems(record.mask, change_11HW)
    return found


def _caption_problems(words: str) -> list[tuple[str, str, float]]:
    if not words.strip():
        return [("no caption", "empty", 1.0)]
    if any(unicodedata.category(sign) == "Cc" and not sign.isspace() for sign in words):
        return [("no caption", "control characters", 1.0)]
    count = len(words.split())
    return [("long caption", f"{count} words", float(count))] if count > WORDS else []


def _reading_problems(record: Record) -> list[tuple[str, str, float]]:
    """Report what was assumed when the record's pictures were read."""
    found = [("picture", note, 1.0) for note in record.notes]
    if record.transparent:
        detail = f"{record.transparent} pixels, which are shown on white"
        found.append(("transparent", detail, float(record.transparent)))
    return found


def _mask_problems(mask_HW: NDArray[np.uint8], change_11HW: Tensor) -> list[tuple[str, str, float]]:
    size = change_11HW.shape[-2:]
    mask_11HW = torch.nn.functional.interpolate(torch.from_numpy(mask_HW)[None, None].float(), size) > 127
    changed = float(change_11HW.sum())
    if changed and not (change_11HW[mask_11HW] > 0).any():
        return [("mask without change", f"all of {changed:.0f} pixels that change lie outside", 1.0)]
    share = float(change_11HW[~mask_11HW].sum()) / max(1.0, changed)
    return [("change outside the mask", f"{share:.0%} of what changes", share)] if share > OUTSIDE else []


def _digest(record: Record) -> bytes:
    made = hashlib.blake2b(record.instruction.encode(), digest_size=16)
    for picture in (record.source, record.answer, *record.references):
        made.update(b"" if picture is None else picture.tobytes())
    return made.digest()


def _worst(
    dataset: Dataset, findings: Sequence[Finding]
) -> list[tuple[str, Image.Image, Image.Image | None]]:
    """Return the worst records of each problem in turn: title, answer, source."""
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for found in sorted(findings, key=lambda each: -each.weight):
        if found.problem != "unreadable":
            by_kind[found.problem].append(found)
    chosen: list[Finding] = []
    for place in range(SHOWN):
        chosen += [members[place] for members in by_kind.values() if place < len(members)]
    shown = []
    for found in chosen[:SHOWN]:
        record = dataset[found.index]
        source = None if record.source is None else Image.fromarray(record.source)
        title = f"{found.index}: {found.problem}, {found.detail}"
        shown.append((title, Image.fromarray(record.answer), source))
    return shown
