"""Pictures that a command reads and writes: one, several, a folder's, or a pipe's."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editkit.errors import EditkitError

if TYPE_CHECKING:
    from PIL import Image

PIPE = Path("-")
"""Stdin as a source, stdout as an output."""
NOTHING = "\0"
"""Name that stands for an empty one; no file can have it."""
EMPTY = "The picture's name is empty; give a file, a folder, or - for stdin."
SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".mpo")
"""Names of a folder's files that are taken for pictures."""


def limit(pixels: int) -> int:
    """Check --max-pixels, and return it.

    Raises:
        EditkitError: where no picture is so small, or editkit opens none so large.
    """
    from editkit.imaging import images

    if not 1 <= pixels <= images.MAX_PIXELS:
        raise EditkitError(f"--max-pixels {pixels} is not allowed; give 1 to {images.MAX_PIXELS:,}.")
    return pixels


def jobs(sources: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Each picture with the file that its edit is written to; everything that is cheap to check is checked.

    One picture is written to `output`; several, or a folder's, into the folder `output`, under the names of
    their sources.

    Raises:
        EditkitError: where a source cannot be opened, or an output cannot be written or would be a source.
    """
    from editkit.imaging import images

    if not all(map(named, sources)):
        raise EditkitError(EMPTY)
    if len(sources) == 1 and not os.path.isdir(sources[0]):
        check_output(output)
        if sources[0] != PIPE:
            check_held(output, sources[0])
        return [(sources[0], output)]
    found = [each for source in sources for each in _expanded(source)]
    if output == PIPE or output.suffix.lower() in images.FORMATS:
        raise EditkitError(f"-o {output} is one picture; several, or a folder's, need a folder: -o out/.")
    images.check_folder(output)
    made = [(source, output / f"{source.stem}.png") for source in found]
    _check_targets(made)
    return made


def named(source: Path) -> bool:
    """Whether a picture was named: an empty name, such as an unset variable gives, is no folder."""
    return str(source) != NOTHING


def given(text: str) -> Path:
    """Read a picture's name from the command line; an empty one stays empty, where `Path` makes it `.`."""
    return Path(text or NOTHING)


def _expanded(source: Path) -> list[Path]:
    """The pictures of a folder by name, or the picture itself."""
    if source == PIPE:
        raise EditkitError("- reads one picture from stdin; leave the other pictures out.")
    if not os.path.isdir(source):
        if not os.path.exists(source):
            raise EditkitError(
                f"The image {source} cannot be read (No such file or directory); check the path."
            )
        return [source]
    found = sorted(each for each in source.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file())
    if not found:
        raise EditkitError(
            f"The folder {source} holds no pictures; their names end in {', '.join(SUFFIXES)}."
        )
    return found


def _check_targets(made: Sequence[tuple[Path, Path]]) -> None:
    taken: dict[Path, Path] = {}
    sources = {source.resolve() for source, _ in made}
    for source, target in made:
        if target in taken:
            raise EditkitError(
                f"The edits of {taken[target]} and {source} would both be {target}; edit them one by one."
            )
        if target.resolve() in sources:
            raise EditkitError(f"The edit of {source} would replace {target}; give another folder with -o.")
        taken[target] = source


def check_sources(sources: Iterable[Path | None], what: str = "image") -> None:
    """Open pictures' headers, which takes no time.

    Raises:
        EditkitError: for one that cannot be read, or that is stdin.
    """
    from editkit.imaging import images

    for source in sources:
        if source is not None and not named(source):
            raise EditkitError(f"The {what}'s name is empty; give a file.")
        if source == PIPE:
            raise EditkitError(f"The {what} cannot be read from stdin; give a file.")
        if source is not None:
            with images.opened(source, what):
                pass


def check_output(output: Path) -> None:
    """Look whether a picture can be written to a file or stdout.

    Raises:
        EditkitError: where not.
    """
    from editkit.imaging import images

    if output != PIPE:
        images.check_output(output)
    elif sys.stdout.isatty():
        raise EditkitError(
            "-o - would write the picture to the terminal; send stdout to a file or a program."
        )


def check_apart(outputs: Iterable[Path | None], sources: Iterable[Path | None]) -> None:
    """Check that no output would replace a picture that is read, which then would be lost.

    Raises:
        EditkitError: where one would.
    """
    read = [source for source in sources if source is not None and os.path.exists(source)]
    for output in outputs:
        if output is None or not os.path.exists(output):
            continue
        for source in read:
            if os.path.samefile(output, source):
                raise EditkitError(f"The output would replace {source}, which is read; give another file.")


def check_held(output: Path, source: Path | Image.Image, what: str = "image") -> None:
    """Check that a source can be opened, and that the output's format holds pictures of its size.

    Raises:
        EditkitError: where not.
    """
    from editkit.imaging import format_limits, images

    if isinstance(source, Path):
        check_sources([source], what)
        with images.opened(source, what) as file:
            size = file.size
    else:
        size = source.size
    if output != PIPE:
        format_limits.check_size(output, size)


def read_source(source: Path) -> Path | Image.Image:
    """The picture on stdin where the source is `-`; else the path.

    Raises:
        EditkitError: where stdin is a terminal, or holds no picture or one of far too many pixels.
    """
    from editkit.imaging import images

    if source != PIPE:
        return source
    if sys.stdin.isatty():
        raise EditkitError("- reads the picture from stdin, which is the terminal; send it a picture.")
    return images.from_bytes(sys.stdin.buffer.read(), "The image on stdin")


def write_sheet(sheet: Image.Image, output: Path, recipe: Mapping[str, Any]) -> None:
    """Write a contact sheet, scaled down to what its format holds; a note says so.

    Raises:
        EditkitError: where it cannot be written.
    """
    from PIL import ImageOps

    from editkit.cli.options import say
    from editkit.imaging import format_limits, images

    longest = format_limits.longest_side(output)
    if longest is not None and max(sheet.size) > longest:
        sheet = ImageOps.contain(sheet, (longest, longest))
        say([f"{output} is scaled to {sheet.width}x{sheet.height} pixels, since its format holds no more."])
    images.save(sheet, output, recipe)


def write(image: Image.Image, output: Path, recipe: Mapping[str, Any]) -> None:
    """Write a picture with its recipe to a file, or as PNG to stdout.

    Raises:
        EditkitError: where it cannot be written.
    """
    from editkit.imaging import images

    if output != PIPE:
        images.save(image, output, recipe)
        return
    try:
        sys.stdout.buffer.write(images.encode(image, images.PNG, recipe))
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise EditkitError(
            "The program that reads stdout ended early; the picture is not written."
        ) from error
