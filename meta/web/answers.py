"""Plain answers in text and JSON, as ops-meta gives them, and refusals: problem documents below the API, else text."""

from typing import Any

import msgspec
from flask import Response, request

from meta.api.framework.operation import PREFIX
from meta.api.framework.problems import CHALLENGE, Refusal
from meta.api.routes import problem_response
from meta.heartbeat.responses import JSON, TEXT


def text(body: str, code: int = 200) -> Response:
    """As text/plain."""
    return Response(body, code, content_type=TEXT)


def json(data: Any) -> Response:
    """As ops-meta writes its type."""
    return Response(msgspec.json.encode(data), content_type=JSON)


def refusal(code: int, why: str, headers: dict[str, str] | None = None) -> Response:
    """why: in words for the client."""
    headers = dict(headers or (CHALLENGE if code == 401 else {}))
    if is_api():
        return problem_response(Refusal(code, why, headers=headers))
    response = text(f"{why}\n", code)
    response.headers.update(headers)
    return response


def is_api() -> bool:
    """Whether the request is for a path below the API's prefix."""
    return request.path.startswith(f"{PREFIX}/")
