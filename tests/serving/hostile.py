"""Clients that mean no good: each returns the status that it was answered with, None where it left."""

from __future__ import annotations

import json
import socket
import struct
import time
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import httpx
from PIL import Image, PngImagePlugin

from tests.serving.server import Served

Attack = Callable[[Served], int | None]
PATH = "/v1/images/edits"
BOUNDARY = "hostile"


def png(picture: Image.Image, **options: Any) -> bytes:
    """A picture file."""
    buffer = BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


PLAIN = png(Image.new("RGB", (24, 24), (200, 30, 20)))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb(width: int, height: int) -> bytes:
    """A small file that unpacks to a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(1 << 22), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _text_bomb() -> bytes:
    """A small picture with a chunk of text that unpacks to 64 MB."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("comment", "a" * (64 << 20), zip=True)
    return png(Image.new("RGB", (8, 8)), pnginfo=chunks)


TEXT_BOMB = _text_bomb()


def _sent(file: bytes | str = PLAIN, **fields: Any) -> Attack:
    def attack(server: Served) -> int:
        given = {"prompt": "make it blue", "steps": "1"} | fields
        parts = [("image", ("a.png", file, "image/png"))]
        return httpx.post(f"{server.url}{PATH}", files=parts, data=given, timeout=1800).status_code

    return attack


def _posted(content: bytes, kind: str, path: str = PATH) -> Attack:
    def attack(server: Served) -> int:
        headers = {"Content-Type": kind}
        return httpx.post(f"{server.url}{path}", content=content, headers=headers, timeout=1800).status_code

    return attack


def _form(length: int | None = None) -> bytes:
    """A request's head and its first part, whose file has not ended yet."""
    disposition = b'Content-Disposition: form-data; name="image"; filename="a.png"'
    body = b"--%b\r\n%b\r\nContent-Type: image/png\r\n\r\n" % (BOUNDARY.encode(), disposition) + PLAIN[:40]
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {length or 10_000}\r\n\r\n"
    )
    return head.encode() + body


def _status(connection: socket.socket) -> int:
    connection.settimeout(600)
    answer = b""
    while b"\r\n" not in answer and (more := connection.recv(4096)):
        answer += more
    return int(answer.split()[1])


def slow(server: Served) -> int:
    """Sends the beginning of a body and then a byte from time to time."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(_form())
        for _ in range(3):
            time.sleep(0.5)
            connection.sendall(b"x")
        return _status(connection)


def endless(server: Served) -> int:
    """Announces a body of a terabyte."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(_form(10**12))
        return _status(connection)


def leaves_while_sending(server: Served) -> None:
    """Goes away in the middle of its body."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(_form())


def leaves_while_waiting(server: Served) -> None:
    """Asks for long work and does not wait for it."""
    data = {"prompt": "make it blue", "steps": "100"}
    request = httpx.Request(
        "POST", f"{server.url}{PATH}", files={"image": ("a.png", PLAIN, "image/png")}, data=data
    )
    body = request.read()
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in request.headers.items() if name != "host"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + b"\r\n" + body)
        time.sleep(0.2)


ATTACKS: dict[str, Attack] = {
    "bomb": _sent(_bomb(60_000, 60_000)),
    "large bomb": _sent(_bomb(2_000, 2_000)),
    "text bomb": _sent(TEXT_BOMB),
    "no picture": _sent(b"GIF8 no, it is not"),
    "page": _sent(b"<html><img src='file:///etc/passwd'></html>"),
    "program": _sent(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n"),
    "cut": _sent(PLAIN[:-30]),
    "nothing": _sent(b""),
    "huge prompt": _sent(prompt="a" * 200_000),
    "long prompt": _sent(prompt="a" * 40_000),
    "huge number": _sent(steps="9" * 5_000),
    "many fields": _sent(**{f"field{number}": "a" for number in range(200)}),
    "wrong types": _sent(seed="[]", search="{}{}"),
    "deep search": _sent(search="[" * 20_000),
    "path": _sent(adapter="../../../../etc/passwd"),
    "no form": _posted(b"\x00" * 1000, "multipart/form-data"),
    "broken form": _posted(b"--a\r\nnonsense", "multipart/form-data; boundary=a"),
    "odd boundary": _posted(b"--a", 'multipart/form-data; boundary="' + "a" * 300 + '"'),
    "JSON where a form belongs": _posted(json.dumps({"prompt": "a"}).encode(), "application/json"),
    "deep JSON": _posted(b"[" * 100_000, "application/json", "/v1/images/generations"),
    "half a surrogate": _posted(
        b'{"prompt": "a", "model": "gpt-image\\ud800"}', "application/json", "/v1/images/generations"
    ),
    "no object": _posted(b"[1, 2]", "application/json", "/v1/images/generations"),
    "not a number": _posted(
        b'{"prompt": "a", "guidance": NaN}', "application/json", "/v1/images/generations"
    ),
    "huge number in JSON": _posted(
        b'{"prompt": "a", "guidance": 1%s}' % (b"0" * 400), "application/json", "/v1/images/generations"
    ),
    "long side": _sent(png(Image.new("L", (16_384, 4))), output_format="webp"),
    "lists": _posted(b'{"prompt": ["a"], "n": [1]}', "application/json", "/v1/images/generations"),
    "too many bytes": _posted(bytes(52 << 20), "multipart/form-data; boundary=a"),
    "endless": endless,
    "slow": slow,
    "leaves while sending": leaves_while_sending,
    "leaves while waiting": leaves_while_waiting,
}
