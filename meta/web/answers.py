"""Responses in text and JSON, as ops-meta gives them, and refusals: problem documents in the API, plain text elsewhere."""

from typing import Any

import msgspec
from flask import Response, request

from meta.api.framework.operation import PREFIX
from meta.api.framework.problems import CHALLENGE, Refusal
from meta.api.routes import problem_response
from meta.heartbeat.responses import JSON, TEXT


def text(body: str, code: int = 200) -> Response:
    """Return a response in plain text."""
    return Response(body, code, content_type=TEXT)


def json(data: Any) -> Response:
    """Return a response in JSON, with the Content-Type as ops-meta writes it."""
    return Response(msgspec.json.encode(data), content_type=JSON)


def refusal(code: int, why: str, headers: dict[str, str] | None = None) -> Response:
    """Return a refusal in the form for this path. why: in words for the client."""
    headers = dict(headers or (CHALLENGE if code == 401 else {}))
    if is_api():
        return problem_response(Refusal(code, why, headers=headers))
    response = text(f"{why}\n", code)
    response.headers.update(headers)
    return response


def is_api() -> bool:
    """Whether the request is for the REST API."""
    return request.path.startswith(f"{PREFIX}/")
