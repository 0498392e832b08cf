"""`editkit doctor`: what this machine has, what is missing, and what will fit."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GB = 1e9


def doctor(
    file: Annotated[
        Path | None,
        typer.Argument(help="Weight or LoRA file to describe instead: what it is, fits and takes."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Describe this machine, or a weight file."""
    if file is not None:
        from editkit.cli import doctor_file

        told = doctor_file.describe(file)
        print(json.dumps(told) if as_json else doctor_file.text(told))
        return
    found = _found()
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console

    console = Console(highlight=False)
    for part in (_devices, _versions, _optional, _weights, _memory):
        console.print(part(found))
    _advise(found, console)


def _found() -> dict[str, Any]:
    """Return the whole report in JSON's types."""
    from editkit import machine
    from editkit.backbone import provider

    inventory = provider().inventory
    devices = machine.devices()
    first = devices[0]
    ways = [
        asdict(way) | {"fits": _fits(way, first, devices[-1], inventory.ROOM)}
        for way in inventory.loading_choices(first.name == "cpu")
    ]
    return {
        "devices": [asdict(device) for device in devices],
        "versions": machine.versions(),
        "optional": [
            asdict(each) | {"version": each.version, "install": each.install} for each in machine.OPTIONAL
        ],
        "weights": [asdict(each) for each in inventory.cached_roles()],
        "token": inventory.token(),
        "memory": {"device": first.name, "room": inventory.ROOM, "ways": ways},
    }


def _fits(way: Any, device: Any, main: Any, room: float) -> bool:
    return bool(way.device + room <= device.memory and way.main <= main.memory)


def _table(title: str, *columns: str, right: tuple[int, ...] = ()) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.show_edge = table.pad_edge = False
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place in right else "left", overflow="fold")
    return table


def _devices(found: dict[str, Any]) -> "Table":
    table = _table("Devices", "device", "model", "memory", "free", right=(2, 3))
    for each in found["devices"]:
        table.add_row(each["name"], each["model"], _size(each["memory"]), _size(each["free"]))
    return table


def _versions(found: dict[str, Any]) -> "Table":
    table = _table("Versions", "package", "version", "package", "version")
    cells = [(package, version or "checkout") for package, version in found["versions"].items()]
    half = -(-len(cells) // 2)
    for place in range(half):
        table.add_row(*cells[place], *(cells[place + half] if place + half < len(cells) else ()))
    return table


def _optional(found: dict[str, Any]) -> "Table":
    table = _table("Optional packages", "package", "version", "what for")
    for each in found["optional"]:
        table.add_row(each["package"], each["version"] or "[dim]-[/dim]", each["purpose"])
    return table


def _weights(found: dict[str, Any]) -> "Table":
    table = _table("Weights", "backbone", "role", "source", "state", "here", "needs", right=(4, 5))
    before = None
    for each in found["weights"]:
        name = "" if each["family"] == before else each["family"]
        embedded, before = each["state"] == "embedded", each["family"]
        # Of a file, its repository; what all roles share comes from the family's.
        source = "editkit" if embedded else each["source"].split("/")[1]
        here = _size(each["size"]) if each["size"] else ""
        table.add_row(name, each["role"], source, _coloured(each["state"]), here, _size(each["whole"]))
    return table


def _memory(found: dict[str, Any]) -> "Table":
    memory = found["memory"]
    room = f"{memory['room'] / GB:.0f} GB more for an edit of one megapixel"
    title = f"One role of FLUX.1 on {memory['device']}, and {room}"
    table = _table(title, "settings", "weights", "main memory", "fits", right=(1, 2))
    for way in memory["ways"]:
        main = _size(way["main"]) if way["main"] else ""
        verdict = "[green]yes[/green]" if way["fits"] else "[red]no[/red]"
        table.add_row(way["settings"] or "none", _size(way["device"]), main, verdict)
    return table


def _advise(found: dict[str, Any], console: "Console") -> None:
    """Suggest the next step."""
    console.print('\ntiny runs here: editkit edit PICTURE "make the red circle blue"')
    way = next((way for way in found["memory"]["ways"] if way["fits"]), None)
    if way is None:
        console.print("FLUX.1 does not fit here in any of these ways.")
        return
    settings = f" {way['settings']}" if way["settings"] else ""
    command = f'editkit edit PICTURE "make the car red" -b flux1-dev{settings}'
    console.print(f"FLUX.1 fits: {command}", soft_wrap=True, markup=False)
    missing = {each["package"]: each["install"] for each in found["optional"] if each["version"] is None}
    if way["needs"] in missing:
        console.print(f"This needs a package: {missing[way['needs']]}", markup=False)
    _advise_on_weights(found, console)


def _advise_on_weights(found: dict[str, Any], console: "Console") -> None:
    """Name what incomplete weights lack, and say whether a token for gated weights is missing."""
    weights = found["weights"]
    if all(each["state"] != "complete" for each in weights):
        console.print("No published weights are complete here; the first edit fetches them.")
    for each in weights:
        if each["state"] == "partly":
            repository, _, what = each["missing"][0].partition(" ")
            role = f"{each['family']} {each['role']}"
            told = f"{role} lacks {what} of {repository}; run: hf download {repository}"
            console.print(told, soft_wrap=True, markup=False)
    if not found["token"]:
        console.print("No token of the Hub is here, which gated weights need; run: hf auth login")


def _coloured(state: str) -> str:
    colour = {"complete": "green", "embedded": "green", "partly": "yellow"}.get(state, "dim")
    return f"[{colour}]{state}[/{colour}]"


def _size(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= 5e7 or size == 0 else f"{size / 1e6:.0f} MB"
