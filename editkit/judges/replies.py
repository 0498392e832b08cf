"""A folder of a judge's replies, each under a digest of everything that it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from editkit import atomic_files
from editkit.judges.base import Reply


class Replies:
    """Replies by content: judge, question, pictures and attempt.

    Args:
        folder: holds one JSON file a reply; made with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(
        self, judge: Mapping[str, Any], question: str, pictures: Sequence[Image.Image], attempt: int
    ) -> str:
        """The name of the reply to a question."""
        told = [json.dumps(judge, sort_keys=True), question, *map(digest, pictures), str(attempt)]
        return hashlib.blake2b("\0".join(told).encode(), digest_size=16).hexdigest()

    def get(self, key: str) -> Reply | None:
        """A reply that was kept; None where there is none, or its file is damaged."""
        try:
            found = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            return Reply(text=str(found["reply"]), seconds=float(found["seconds"]), model=str(found["model"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(
        self,
        key: str,
        reply: Reply,
        *,
        judge: Mapping[str, Any],
        question: str,
        pictures: Mapping[str, Image.Image],
        attempt: int,
    ) -> None:
        """Keep a reply beside what was asked.

        Raises:
            EditkitError: where it cannot be written.
        """
        told = {
            "reply": reply.text,
            "model": reply.model,
            "seconds": round(reply.seconds, 3),
            "attempt": attempt,
            "question": question,
            "pictures": {name: digest(picture) for name, picture in pictures.items()},
            "judge": dict(judge),
        }
        with atomic_files.whole(self.folder / f"{key}.json") as file:
            file.write((json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode(errors="replace"))


def digest(picture: Image.Image) -> str:
    """A digest of a picture's pixels, in sRGB of 8 bits."""
    plain = picture.convert("RGB")
    made = hashlib.blake2b(f"{plain.width} {plain.height} ".encode(), digest_size=16)
    made.update(plain.tobytes())
    return made.hexdigest()
