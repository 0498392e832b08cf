"""Edit one picture again and again: a tree of turns, each on disk before it is returned."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from editkit import atomic_files
from editkit.errors import EditkitError
from editkit.imaging import contact_sheet, images
from editkit.inference import postprocess, provenance
from editkit.sessions import drift, lock, store
from editkit.sessions.store import Turn
from editkit.types import EditResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from editkit.inference.editor import PictureEditor
    from editkit.types import ImageInput

STRIP = "strip.png"


class Session:
    """A tree of edits of one picture; `Editor.session` starts a session, `load_session` loads one.

    Attributes:
        editor: makes the edits.
        folder: folder of the turns.
        turns: all turns in the order in which they were made; turn 0 is the original.
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

    def edit(self, instruction: str, method: str = "kontext", **fields: Any) -> EditResult:
        """Edit the current picture; the result is on disk as the next turn when this returns.

        `fields` are further arguments of `Editor.edit`.

        Raises:
            EditkitError: where the edit cannot be carried out or written; the session is then unchanged.
        """
        self.check()  # before an edit that could not be kept
        result = self.editor.edit(self.current.path, instruction, method, **fields)
        self.adopt(result)
        return result

    def adopt(self, result: EditResult) -> Turn:
        """Add a result as the next turn that was made outside the session from the current picture.

        Raises:
            EditkitError: where the result holds no picture, was made from another one, or cannot be written.
        """
        before = images.load_image(self.current.path)
        if result.image is None:
            raise EditkitError(f"The result holds no picture ({result.error}); give one that does.")
        after = images.load_image(result.image)
        made_from = result.recipe.get("source_sha256")
        if after.size != before.size or (made_from and made_from != provenance.pixels_sha256(before)):
            raise EditkitError(
                f"The result was not made from turn {self._current}, which is the current one; "
                "branch to the turn that it was made from first."
            )
        recipe, change = dict(result.recipe), result.change
        if "paths" in recipe:  # relative, so that the folder can be moved
            mask = store.change_name(len(self.turns)) if recipe.get("mask") and change is not None else None
            recipe["paths"] = {**recipe["paths"], "image": self.current.path.name, "mask": mask}
        if change is None:
            change = images.gray(postprocess.change(images.tensor(before), images.tensor(after)))
        return self._add(
            result.image,
            change,
            instruction=str(recipe.get("instruction", "")),
            method=result.method,
            recipe=recipe,
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
        return self._move(parent, (*self._ahead, self._current))

    def redo(self) -> Turn:
        """Go forward again to the turn that was undone last.

        Raises:
            EditkitError: where nothing was undone since the last edit or branch.
        """
        if not self._ahead:
            raise EditkitError("There is nothing to redo; no turn was undone since the last edit or branch.")
        *ahead, following = self._ahead
        return self._move(following, tuple(ahead))

    def branch(self, number: int) -> Turn:
        """Make any turn current; later turns are kept.

        Raises:
            EditkitError: where there is no such turn.
        """
        if not isinstance(number, int) or not 0 <= number < len(self.turns):
            raise EditkitError(f"There is no turn {number}; give one from 0 to {len(self.turns) - 1}.")
        return self._move(number, ())

    def path(self) -> tuple[Turn, ...]:
        """Return the turns from the original to the current one."""
        found = [self.current]
        while found[-1].parent is not None:
            found.append(self.turns[found[-1].parent])
        return tuple(reversed(found))

    def check(self) -> None:
        """Check that the folder holds the session as it is here.

        Raises:
            EditkitError: where another program or page changed it, or it is gone.
        """
        store.check_unchanged(self.folder, self.turns, self._current, self._ahead)

    def drift(self) -> float:
        """Measure the mean absolute difference to the original, in [0, 1], where nothing should have changed.

        It covers the pixels that no turn on the path was meant to change. It is 0 if there are none.
        """
        return drift.measure(self.path())

    def anchor(self) -> Turn:
        """Add a turn with the original's pixels wherever no turn on the path was meant to change them.

        Raises:
            EditkitError: where it cannot be written.
        """
        anchored = {
            "anchor": {store.picture_name(turn.number): turn.digests[turn.path.name] for turn in self.path()},
            "versions": provenance.versions(),
        }
        return self._add(
            drift.anchor(self.path()), None, instruction="anchor on the original", method="", recipe=anchored
        )

    def recipes(self) -> dict[str, Any]:
        """Return the recipes of the turns on the path, in order, for the strip."""
        return {"session": [dict(turn.recipe) for turn in self.path()]}

    def strip(self) -> Image.Image:
        """Draw the pictures of the path side by side under their instructions."""
        return contact_sheet.strip([(turn.instruction, turn.image) for turn in self.path()])

    def save(self, folder: str | Path) -> Path:
        """Write the session into a folder: pictures with recipes, session.json and strip.png.

        The folder appears whole or not at all. It waits for the writer of a session there, and replaces it.

        Raises:
            EditkitError: where the folder holds other things or cannot be written, or this session changed.
        """
        folder = images.check_folder(folder)
        if folder.resolve() == self.folder.resolve():
            with self._alone():
                images.save(self.strip(), folder / STRIP, self.recipes())
            return folder
        store.check_free(folder, replace=True)
        with ExitStack() as held, atomic_files.whole_folder(folder) as partial:
            with self._alone():
                store.copy(self.turns, partial)
                images.save(self.strip(), partial / STRIP, self.recipes())
                store.index(partial, self.turns, self._current, self._ahead)
            # Never both locks at once: two sessions saved onto each other would wait forever.
            held.enter_context(lock.replacing(folder))
            store.check_free(folder, replace=True)  # another may have begun meanwhile
        return folder

    def _add(self, image: Image.Image, change: Image.Image | None, **values: Any) -> Turn:
        number = len(self.turns)
        with self._alone():  # before files of another's turns are replaced
            turn = store.write(self.folder, image, change, number=number, parent=self._current, **values)
            return self._commit((*self.turns, turn), number, ())

    def _move(self, number: int, ahead: tuple[int, ...]) -> Turn:
        with self._alone():
            return self._commit(self.turns, number, ahead)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with lock.alone(self.folder):
            self.check()
            yield

    def _commit(self, turns: tuple[Turn, ...], current: int, ahead: tuple[int, ...]) -> Turn:
        """Write the new state to disk, then take it over, so that a failure changes nothing."""
        store.index(self.folder, turns, current, ahead)
        self.turns, self._current, self._ahead = turns, current, ahead
        return self.current


def start(editor: PictureEditor, image: ImageInput, folder: str | Path | None = None) -> Session:
    """Start a session with one turn, the original.

    Raises:
        EditkitError: where the picture cannot be read, or the folder is not empty or cannot be written.
    """
    original = images.load_image(image)
    if folder is None:
        folder = tempfile.mkdtemp(prefix="editkit-session-")
    folder = images.check_folder(folder).absolute()  # since the program may change its directory
    upright = images.picture(images.tensor(original), original.alpha)
    turn = store.begin(folder, upright, original.notes)
    return Session(editor, folder, (turn,), 0)


def load_session(folder: str | Path, editor: Callable[[Sequence[Turn]], PictureEditor]) -> Session:
    """Load a session from its folder, at the turn that was current.

    Args:
        folder: the session's folder.
        editor: gives an editor for the turns.

    Raises:
        EditkitError: where a file is missing or damaged, or the backbone cannot be loaded.
    """
    folder = Path(folder).absolute()
    turns, current, ahead = store.read_turns(folder)
    return Session(editor(turns), folder, turns, current, ahead)
