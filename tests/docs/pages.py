"""Pages of the documentation, and the commands that they show."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

README, DOCS = ROOT / "README.md", ROOT / "docs"


METHOD_PAGES = sorted((ROOT / "methods").glob("*/README.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")), *METHOD_PAGES]
ELSEWHERE = re.compile(r"flux1|black-forest|photo|pairs|mine|Qwen|openai")
"""Signs that a line wants weights, pictures, devices or files that are not here."""
TRAINED = re.compile(r"\bout/")
"""Sign that a line wants the files of a training run."""
FENCE = re.compile(r'^( *)```(\w*)(?: title="(.+?)")?[^\n]*\n(.*?)^\1```', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Lines that begin with a command of this project, continued ones joined; none of plain text."""
        if self.language not in ("", "bash"):
            return []
        found, line = [], ""
        for part in self.text.replace("\\\n", " ").splitlines():
            line = f"{line}\n{part}" if line else part
            if line.partition(" #")[0].count("'") % 2 == 0:  # a quoted value may take several lines
                found.append(line)
                line = ""
        return [line for line in found if line.startswith(("editkit ", "python demos/"))]


def blocks(page: Path) -> list[Block]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [
        Block(language=language, title=title, text=textwrap.dedent(text))
        for _, language, title, text in found
    ]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shown(*pages: Path) -> list[str]:
    """The commands of pages, each once."""
    lines = [line for page in pages for block in blocks(page) for line in block.commands]
    return [line for line in dict.fromkeys(lines) if line.startswith("editkit ")]


ALL = shown(*PAGES)
