"""The part of an editor that comparisons, sessions and replays use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from editkit.backbone import Backbone
    from editkit.config import Options
    from editkit.inference.progress import Watch
    from editkit.method import Method
    from editkit.types import EditRequest, EditResult


class PictureEditor(Protocol):
    """Edits pictures with any method by name; `editkit.Editor` is one."""

    @property
    def backbone(self) -> Backbone:
        """The loaded FLUX family."""

    def method(self, name: str) -> tuple[Method[Options], Options]:
        """Return a method's record and its options."""

    def configured(self, options: Mapping[str, Mapping[str, Any]]) -> PictureEditor:
        """Make another editor of this backbone with other options."""

    def load(self, request: EditRequest) -> None:
        """Load the weights and adapters of a request ahead of its edit."""

    @property
    def edit(self) -> Callable[..., EditResult]:
        """Edit one picture; takes the fields of an `EditRequest`."""

    def edit_many(
        self, requests: Sequence[EditRequest], batch_size: int = 32, *, watch: Watch | None = None
    ) -> list[EditResult]:
        """Edit many pictures; return the results in the order given."""
