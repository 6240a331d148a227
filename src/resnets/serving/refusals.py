"""Why a request gets no answer: a status, one line, a word for the measures, when to come again."""

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from resnets.errors import DataError, NonFiniteError, ResnetsError, ResourceError, UsageError
from resnets.formatting import printable

# Of what is raised while a request is answered, in this order: the status, and the reason.
_STATUS: dict[type[ResnetsError], tuple[int, str]] = {
    DataError: (422, "image"),
    UsageError: (400, "query"),
    NonFiniteError: (500, "not finite"),
    ResourceError: (503, "memory"),
    ResnetsError: (500, "model"),
}
_PARAMETER = re.compile(r"--(?=(model|top|coverage|sets)\b)")  # options of commands, in hints
_LONGEST = 500  # characters of a message


class Refusal(Exception):
    """What a request is answered that is not served; ``reason`` is a word that is counted.

    After ``retry_after`` seconds the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        hint: str = "",
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.hint = status, reason, hint
        self.message = printable(message[:_LONGEST])  # it may quote what a stranger has sent
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    def response(self) -> Response:
        """Return the answer that says it."""
        told = {"error": self.message} | ({"hint": self.hint} if self.hint else {})
        return as_json(told, self.status, self.headers)


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as an answer, in ASCII: names may hold what UTF-8 cannot."""
    return Response(json.dumps(value), status, headers, "application/json")


def refusal_of(error: Exception) -> Refusal:
    """Return what an error is answered by: nothing of a bug, which only the log explains."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):  # of Starlette's router
        return _of_address(error)
    if isinstance(error, MemoryError):
        return Refusal(503, "memory", "out of memory", hint="send smaller images", retry_after=1)
    if isinstance(error, ResnetsError):
        status, reason = next(found for kind, found in _STATUS.items() if isinstance(error, kind))
        return Refusal(
            status,
            reason,
            error.message,
            hint=_PARAMETER.sub("", error.hint),
            retry_after=1 if status == 503 else None,
        )
    return Refusal(500, "bug", "unexpected error", hint="what it was stands in the server's log")


def _of_address(error: HTTPException) -> Refusal:
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return Refusal(
            405, "method", f"this address takes {allowed}", headers=dict(error.headers or {})
        )
    return Refusal(
        error.status_code,
        "address",
        "there is nothing at this address",
        hint="POST /predict takes images",
    )
