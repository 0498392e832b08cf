"""Answers to requests that are not carried out, in the form of OpenAI's errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from editkit.errors import EditkitError

INVALID, SERVER = "invalid_request_error", "server_error"


class RefusedError(EditkitError):
    """An error that a client is told.

    Args:
        message: one sentence.
        status: of HTTP.
        param: the field that it is about.
        code: a word for programs.
        retry_after: seconds after which to ask again.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        # Not `status`, by which the command line ends.
        self.http_status, self.param, self.code, self.retry_after = status, param, code, retry_after

    def response(self) -> JSONResponse:
        """Make the answer."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return answer(str(self), self.http_status, self.param, self.code, headers)


class ClosedError(RefusedError):
    """An error for work that a server which is being stopped no longer does."""

    def __init__(self) -> None:
        super().__init__("The server is being stopped; ask again later.", 503, code="closing", retry_after=10)


def answer(
    message: str,
    status: int,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Make an answer of an error's parts."""
    error: dict[str, Any] = {"message": message, "type": SERVER if status >= 500 else INVALID}
    return JSONResponse({"error": {**error, "param": param, "code": code}}, status, headers)
