"""Pages of the site that are made from the code: methods, the command line, configs and modules.

mkdocs calls the functions whose names begin with `on_`. Classes are read by griffe, as text, so that the site
builds without torch and follows the code wherever its files move.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("editkit", "backbones", "methods")
TABLE = re.compile(r"^<!-- options of (\w+) -->$", re.MULTILINE)
"""A line of a page in whose place a table of that class's fields appears."""
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
HEAD = "| option | default | meaning |\n| --- | --- | --- |"
MODULE = (
    "## {name}\n\n::: {path}\n    options:\n      show_root_heading: false\n      show_root_toc_entry: false"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that are made here to the menus."""
    menus = {name: pages for entry in config.nav or () for name, pages in entry.items()}
    menus["Methods"] += [{title: f"methods/{name}.md"} for name, (title, _) in _methods().items()]
    rooms = [{name: f"reference/{name}.md"} for name in _rooms()]
    menus["Reference"] += [{"Command line": "reference/cli.md"}, {"Modules": rooms}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here to the site."""
    pages = {f"methods/{name}.md": text for name, (_, text) in _methods().items()}
    pages |= {f"reference/{name}.md": _room_page(name) for name in _rooms()}
    pages["reference/cli.md"] = _command_line()
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put tables of options where a page asks for them."""
    return TABLE.sub(lambda found: _options(found[1]), markdown)


# --- Methods ---


@cache
def _methods() -> dict[str, tuple[str, str]]:
    """Title and page of each method by its folder's name: the folder's README."""
    found = {}
    for readme in sorted((ROOT / "methods").glob("*/README.md")):
        text = LINK.sub(_from_site, readme.read_text(encoding="utf-8"))
        found[readme.parent.name] = text.partition("\n")[0].removeprefix("# "), text
    return found


def _from_site(link: re.Match[str]) -> str:
    """A link of a README two folders below the root, as its page of the site needs it."""
    words, target = link.groups()
    if re.match(r"[a-z]+:|#", target):
        return link[0]
    path, mark, anchor = target.partition("#")
    page = posixpath.relpath(posixpath.normpath(posixpath.join("methods/name", path)), "docs")
    return f"{words}({posixpath.join('..', page)}{mark}{anchor})"


# --- Options ---


@cache
def _loaded(package: str) -> Any:
    return griffe.load(package, search_paths=[ROOT])


def _classes(node: Any) -> Iterator[Any]:
    for member in node.members.values():
        if member.is_alias:
            continue
        if member.is_class:
            yield member
        elif member.is_module:
            yield from _classes(member)


def _options(name: str) -> str:
    """A table of a dataclass's fields: name, default, meaning."""
    (found,) = (each for package in PACKAGES for each in _classes(_loaded(package)) if each.name == name)
    rows = [HEAD]
    for field in found.attributes.values():
        if field.annotation is not None and not field.name.startswith("_"):
            meaning = field.docstring.value if field.docstring else ""
            rows.append(f"| `{field.name}` | {_default(field, found.module)} | {_cell(meaning)} |")
    return "\n".join(rows)


def _default(field: Any, module: Any) -> str:
    """A field's default as it is written in YAML."""
    written = str(field.value)
    if made := re.fullmatch(r"field\(default_factory=(\S+)\)", written):
        return "`{}`" if made[1] == "dict" else "see below"
    if written in module.members and not module.members[written].is_alias:
        written = str(module.members[written].value)
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return f"`{written}`" if len(written) < 24 else "see the code"
    told = {None: "null", True: "true", False: "false", "": '""'}
    known = value if isinstance(value, bool | str | None) else str(value)
    return f"`{told.get(known, known)}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- Modules ---


@cache
def _rooms() -> dict[str, tuple[str, ...]]:
    """The names of the modules of each package, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
            files = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
            if files:
                found[".".join(folder.relative_to(ROOT).parts)] = tuple(files)
    return found


def _room_page(room: str) -> str:
    """A page with everything public of a package."""
    first = (ROOT / room.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
    modules = (MODULE.format(name=name, path=f"{room}.{name}") for name in _rooms()[room])
    return "\n\n".join([f"# {room}", ast.get_docstring(ast.parse(first)) or "", *modules]) + "\n"


# --- The command line ---


def _command_line() -> str:
    """A page with every command: what it does, its arguments and its options."""
    import typer.main

    from editkit.cli import app

    parts = ["# Command line", "`editkit COMMAND --help` prints the same."]
    for name, command in _leaves(typer.main.get_command(app), "editkit"):
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        options = [each for each in command.params if each.param_type_name == "option"]
        usage = " ".join([name, *map(_usage, arguments), *(["[OPTIONS]"] if options else [])])
        rows = [f"| `{each.name.upper()}` | | {_cell(each.help or '')} |" for each in arguments]
        rows += [f"| {_flags(each)} | {_usual(each)} | {_cell(each.help or '')} |" for each in options]
        table = "\n".join([HEAD, *rows]) if rows else ""
        parts += [f"## {name}", (command.help or "").strip(), f"```\n{usage}\n```", table]
    return "\n\n".join(parts) + "\n"


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Commands that do something, by their full names."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for part, child in command.commands.items():
        yield from _leaves(child, f"{name} {part}")


def _usage(argument: Any) -> str:
    word = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))


def _usual(option: Any) -> str:
    return "" if option.default in (None, False, ()) else f"`{option.default}`"
