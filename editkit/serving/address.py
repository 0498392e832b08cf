"""Whether a server can listen at an address."""

from __future__ import annotations

import socket

from editkit.errors import EditkitError


def check_address(host: str, port: int) -> None:
    """Check that a server can listen at an address.

    Raises:
        EditkitError: where the port is taken or the host is not this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except (OSError, OverflowError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise EditkitError(
            f"{host}:{port} cannot be used ({problem}); give another --host or --port."
        ) from error
