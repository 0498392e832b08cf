"""Edit after edit: each turn on disk before anyone sees it, a tree to go back and forth in, and drift."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.imaging import contact_sheet, images
from editkit.inference import postprocess, provenance
from editkit.sessions import store
from editkit.sessions.store import Turn
from editkit.types import EditResult

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from editkit.inference.editor import PictureEditor
    from editkit.types import ImageInput

STRIP = "strip.png"


class Session:
    """A picture and what became of it; `Editor.session` starts one, `load_session` goes on with one.

    Attributes:
        editor: makes the edits.
        folder: where the turns are.
        turns: all that were made, in order; turn 0 is the original.
    """

    def __init__(
        self,
        editor: PictureEditor,
        folder: Path,
        turns: tuple[Turn, ...],
        current: int,
        ahead: tuple[int, ...] = (),
    ) -> None:
        self.editor, self.folder = editor, folder
        self.turns: tuple[Turn, ...] = turns
        self._current, self._ahead = current, ahead

    @property
    def current(self) -> Turn:
        """The turn that the next edit starts from."""
        return self.turns[self._current]

    def edit(self, instruction: str, method: str = "kontext", **asked: Any) -> EditResult:
        """Edit the current picture; the result is on disk as the next turn when this returns.

        `asked` is whatever else `Editor.edit` takes.

        Raises:
            EditkitError: where the edit cannot be carried out or kept; the session is then as it was.
        """
        result = self.editor.edit(self.current.path, instruction, method, **asked)
        self.adopt(result)
        return result

    def adopt(self, result: EditResult) -> Turn:
        """Make a result that was made elsewhere from the current picture the next turn.

        Raises:
            EditkitError: where it holds no picture, or one that was made from another; or it cannot be kept.
        """
        before = images.load(self.current.path)
        if result.image is None:
            raise EditkitError(f"The result holds no picture ({result.error}); give one that does.")
        after = images.load(result.image)
        made_from = result.recipe.get("source_sha256")
        if after.size != before.size or (made_from and made_from != provenance.pixels_sha256(before)):
            raise EditkitError(
                f"The result was not made from turn {self._current}, which is the current one; "
                "branch to the turn that it was made from first."
            )
        told, change = dict(result.recipe), result.change
        if "paths" in told:  # what it was made from lies beside it, wherever the folder goes
            mask = store.change_name(len(self.turns)) if told.get("mask") and change is not None else None
            told["paths"] = {**told["paths"], "image": self.current.path.name, "mask": mask}
        if change is None:
            change = images.gray(postprocess.change(images.tensor(before), images.tensor(after)))
        return self._add(
            result.image,
            change,
            instruction=str(told.get("instruction", "")),
            method=result.method,
            recipe=told,
            notes=result.notes,
            alignment=result.alignment,
        )

    def undo(self) -> Turn:
        """Go back to the turn that the current one started from.

        Raises:
            EditkitError: at the original.
        """
        parent = self.current.parent
        if parent is None:
            raise EditkitError("There is nothing to undo; this is the original picture.")
        return self._commit(self.turns, parent, (*self._ahead, self._current))

    def redo(self) -> Turn:
        """Go forth again the way that was undone.

        Raises:
            EditkitError: where nothing was undone since the last edit or branch.
        """
        if not self._ahead:
            raise EditkitError("There is nothing to redo; no turn was undone since the last edit or branch.")
        *ahead, following = self._ahead
        return self._commit(self.turns, following, tuple(ahead))

    def branch(self, number: int) -> Turn:
        """Make any turn current; those that were made after it stay.

        Raises:
            EditkitError: where there is no such turn.
        """
        if not isinstance(number, int) or not 0 <= number < len(self.turns):
            raise EditkitError(f"There is no turn {number}; give one from 0 to {len(self.turns) - 1}.")
        return self._commit(self.turns, number, ())

    def path(self) -> tuple[Turn, ...]:
        """From the original to the current turn."""
        found = [self.current]
        while found[-1].parent is not None:
            found.append(self.turns[found[-1].parent])
        return tuple(reversed(found))

    def drift(self) -> float:
        """Mean absolute difference to the original, in [0, 1], over pixels that no turn was meant to change.

        The turns are those on the path; 0 where there is no such pixel.
        """
        changed_11HW, original_1CHW = store.changed(self.path()), _pixels(self.turns[0])
        still = (changed_11HW < 0.5).expand_as(original_1CHW)
        if not still.any():
            return 0.0
        return float((_pixels(self.current) - original_1CHW).abs()[still].mean())

    def anchor(self) -> Turn:
        """A new turn with the original's own pixels wherever no turn on the path was meant to change them.

        Raises:
            EditkitError: where it cannot be kept.
        """
        kept_1CHW = postprocess.kept(
            _pixels(self.turns[0]), _pixels(self.current), store.changed(self.path())
        )
        alpha = images.load(self.current.path).alpha
        anchored = {
            "anchor": {store.picture_name(turn.number): turn.digests[turn.path.name] for turn in self.path()},
            "versions": provenance.versions(),
        }
        return self._add(
            images.picture(kept_1CHW, alpha),
            None,
            instruction="anchor on the original",
            method="",
            recipe=anchored,
        )

    def recipes(self) -> dict[str, Any]:
        """How the pictures of the path were made, in order, for the strip."""
        return {"session": [dict(turn.recipe) for turn in self.path()]}

    def strip(self) -> Image.Image:
        """The path's pictures side by side under their instructions."""
        return contact_sheet.strip([(turn.instruction, turn.image) for turn in self.path()])

    def save(self, folder: str | Path) -> Path:
        """Write everything into a folder: pictures with recipes, session.json and strip.png.

        The folder appears whole or not at all; a session that was saved there before gives way to this one.

        Raises:
            EditkitError: where something else is there, or it cannot be written.
        """
        folder = images.check_folder(folder)
        if folder.resolve() == self.folder.resolve():
            images.save(self.strip(), folder / STRIP, self.recipes())
            return folder
        store.check_free(folder, replace=True)
        with atomic_files.whole_folder(folder) as partial:
            for turn in self.turns:
                for name in turn.digests:
                    shutil.copyfile(self.folder / name, partial / name)
            images.save(self.strip(), partial / STRIP, self.recipes())
            store.index(partial, self.turns, self._current, self._ahead)
        return folder

    def _add(self, image: Image.Image, change: Image.Image | None, **values: Any) -> Turn:
        number = len(self.turns)
        turn = store.write(self.folder, image, change, number=number, parent=self._current, **values)
        return self._commit((*self.turns, turn), number, ())

    def _commit(self, turns: tuple[Turn, ...], current: int, ahead: tuple[int, ...]) -> Turn:
        """Write the new state to disk, then take it over, so that a failure changes nothing."""
        store.index(self.folder, turns, current, ahead)
        self.turns, self._current, self._ahead = turns, current, ahead
        return self.current


def start(editor: PictureEditor, image: ImageInput, folder: str | Path | None = None) -> Session:
    """A session of one turn, the original.

    Raises:
        EditkitError: where the picture cannot be read, or the folder holds something or cannot be written.
    """
    original = images.load(image)
    if folder is None:
        folder = tempfile.mkdtemp(prefix="editkit-session-")
    folder = images.check_folder(folder).absolute()  # a program may change its directory
    store.check_free(folder)
    upright = images.picture(images.tensor(original), original.alpha)
    turn = store.write(
        folder, upright, number=0, parent=None, instruction="original", method="", notes=original.notes
    )
    store.index(folder, (turn,), 0, ())
    return Session(editor, folder, (turn,), 0)


def load(folder: str | Path, editor: Callable[[Sequence[Turn]], PictureEditor]) -> Session:
    """Go on with a session that was kept or saved in a folder, at the turn where it was left.

    Args:
        folder: a session's.
        editor: gives the editor that goes on with these turns.

    Raises:
        EditkitError: where a file is missing or damaged, or the backbone cannot be had.
    """
    folder = Path(folder).absolute()
    turns, current, ahead = store.read(folder)
    return Session(editor(turns), folder, turns, current, ahead)


def _pixels(turn: Turn) -> Tensor:
    return images.tensor(images.load(turn.path))
