"""How every answer looks: JSON, and for a refusal what, the value, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from pipeline.dashboard.facts import Problem, Refusal, RefusalBody

_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """A request that cannot be granted."""

    def __init__(self, status: int, code: str, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.problems = problems

    def response(self) -> Response:
        """Return the answer that says so."""
        return problem(self.status, self.code, str(self), self.problems)


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``content``, plain data or structs, as JSON."""
    return Response(
        _encode(content), status, {"Cache-Control": "no-store", **(headers or {})}, media_type="application/json"
    )


def problem(
    status: int,
    code: str,
    message: str,
    problems: Sequence[Problem] = (),
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a refusal."""
    return answer(RefusalBody(Refusal(code, message, list(problems))), status, headers)
