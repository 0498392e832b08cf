"""The parts that all tabs of a page share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demos.device import DeviceWorker
from demos.kept import Kept


@dataclass(frozen=True, kw_only=True)
class Place:
    """The parts that every tab of a page needs.

    Attributes:
        device: runs the edits.
        visit: state with a `Visit`.
        kept: what the page keeps on disk.
        pixels: largest number of pixels of a picture.
        adapters: further adapters that visitors may choose: files, folders or Hub ids by name.
    """

    device: DeviceWorker
    visit: Any
    kept: Kept
    pixels: int
    adapters: Mapping[str, str]

    @property
    def base(self) -> str | None:
        """The published family of the page's backbone; None where it is of none."""
        return self.device.editor.backbone.base
