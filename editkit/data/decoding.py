"""Read text files as UTF-8, and say in one sentence what is wrong with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from editkit.errors import EditkitError


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say in one sentence why a file cannot be read."""
    try:
        yield
    except FileNotFoundError as error:
        raise EditkitError(f"There are no records at {path}; set data.path to a file that exists.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise EditkitError(f"The records in {path} cannot be read; give a file of UTF-8 text.") from error


def whole_text(path: Path, undecoded: str = "strict") -> str:
    """Read a whole file; `undecoded` says what becomes of bytes that are no UTF-8, as in `open`.

    Raises:
        EditkitError: where it is missing or cannot be read.
    """
    with reading(path):
        return path.read_text(encoding="utf-8-sig", errors=undecoded)


def check_decoded(text: str, where: str) -> None:
    """Refuse text with bytes in it that are no UTF-8, which `surrogateescape` keeps as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EditkitError(f"{where} is not UTF-8 text; save the file as UTF-8.") from error
