"""Serves the REST API's operations as routes of Flask: decode, call, encode. Apart from meta.artifacts.transfer, which sends
files, no other module of the API uses Flask."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import msgspec
from flask import Blueprint, Response, g, request
from werkzeug.exceptions import HTTPException

from meta.access.clients import path_prefix
from meta.access.roles import Rule
from meta.api.framework import openapi, problems, strict
from meta.api.framework.operation import FILE, PREFIX, SECRET, Call, Operation, Reply, operation
from meta.api.framework.problems import Refusal
from meta.api.resources import hosts, records, retry, revisions, tarballs, tokens
from meta.api.state import state
from meta.artifacts import transfer
from meta.errors import MetaError
from updater.wire.limits import MAX_BODY

_encoder = msgspec.json.Encoder()


def operations() -> list[Operation]:
    """All operations, in the order of the OpenAPI document."""
    modules = (records, retry, revisions, hosts, tokens, tarballs)

    @cache
    def document() -> dict[str, Any]:
        return openapi.document(listed)

    @operation("GET", "/openapi.json", Rule.PUBLIC, "This document", answers={200: dict[str, Any]})
    def get_openapi(call: Call) -> Reply:
        return Reply(200, document() | {"servers": [{"url": call.prefix or "/"}]})

    listed = [one for module in modules for one in vars(module).values() if isinstance(one, Operation)] + [get_openapi]
    return listed


def blueprint() -> Blueprint:
    """The routes, with their rule as an attribute of the view function, as create_app expects."""
    api = Blueprint("api", __name__, url_prefix=PREFIX)
    for one in operations():
        path = one.path.replace("{", "<").replace("}", ">")
        api.add_url_rule(path, one.name, _served(one), methods=[one.method])
    return api


def _served(one: Operation) -> Callable[..., Response]:
    def view(**parts: str) -> Response:
        try:
            with _place(one):
                return _rendered(one.view(_call(one, parts)), one)
        except MetaError as e:
            return problem_response(problems.refusal(e))

    view.rule = one.rule  # type: ignore[attr-defined]
    return view


def _place(one: Operation) -> AbstractContextManager[None]:
    if one.body is FILE:
        return state().places.upload()
    return state().places.large_body() if one.most >= (request.content_length or 0) > MAX_BODY else nullcontext()


def _call(one: Operation, parts: Mapping[str, str]) -> Call:
    service = state().service
    path = strict.path(parts, one.parts)
    pairs = list(request.args.items(multi=True))
    query = strict.query(pairs, one.query or _NoQuery)
    body = stream = None
    length = 0
    if one.body is FILE:
        length = _length(service.settings.max_tarball)
        request.max_content_length = length + 1
        stream = request.stream
    elif one.body is not None:
        data = strict.parse(_body(one.most))
        checked = one.check(data) if one.check else None  # first, since its messages are more precise
        body = strict.convert(data, one.body)
        body = checked if one.check else body
    elif (request.content_length or 0) > len(b"{}") or request.headers.get("Transfer-Encoding"):
        raise Refusal(400, _needs_no_body(one))
    return Call(
        service,
        who=g.principal,
        now=service.clock.now(),
        path=path,
        query=query,
        body=body,
        if_match=request.headers.get("If-Match", ""),
        if_none_match=request.headers.get("If-None-Match", ""),
        stream=stream,
        length=length,
        origin=(request.scheme, request.headers.get("Host", "")),
        secret=request.headers.get(SECRET, ""),
        prefix=path_prefix(request.environ, service.settings.trusted_proxies),
    )


class _NoQuery(msgspec.Struct):
    """The query of operations that take none."""


def _needs_no_body(one: Operation) -> str:
    """Why a body is refused: it would be ignored, as if what it says had been done."""
    names = ", ".join(f"`{field.encode_name}`" for field in msgspec.structs.fields(one.query or _NoQuery))
    return f"{one.method} {one.path} takes no body{names and f'; in its query it takes {names}'}"


def _body(most: int) -> bytes:
    """The request's body. A body larger than MAX_BODY must announce its length, since a slot is reserved for it."""
    if request.mimetype != "application/json":
        raise Refusal(415, "the body must be JSON; send it with Content-Type: application/json")
    length = request.content_length
    if length is None:
        most = MAX_BODY
    request.max_content_length = most + 1
    body = request.get_data(cache=False) if (length or 0) <= most else b""
    if max(length or 0, len(body)) > most:
        raise Refusal(413, _too_large(most))
    return body


def _too_large(most: int) -> str:
    return f"the body is too large: at most {most:,} bytes are read"


def _length(limit: int) -> int:
    """The announced length in bytes. Without it, a truncated upload could not be recognised."""
    if not request.content_length:
        raise Refusal(411, "send the file with its Content-Length")
    if request.content_length > limit:
        raise Refusal(413, f"a file may have {limit:,} bytes at most, as `maxTarball` says")
    return request.content_length


def _rendered(reply: Reply, one: Operation) -> Response:
    if one.answers[reply.status] is FILE:
        return transfer.send(reply.file, state().service.settings.tarballs, state().places)
    if reply.body is None:
        return Response(status=reply.status, headers=dict(reply.headers))
    body = _encoder.encode(reply.body)
    response = Response(body, reply.status, dict(reply.headers), content_type=openapi.JSON)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def problem_response(refused: Refusal) -> Response:
    """A refusal as a problem document."""
    body = _encoder.encode(problems.problem(refused))
    return Response(body, refused.status, refused.headers, content_type=problems.CONTENT_TYPE)


def http_problem(error: HTTPException) -> Response:
    """A refusal by Flask as a problem document, with its headers such as Allow."""
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After", "Content-Range")}
    text = _too_large(MAX_BODY) if error.code == 413 else error.description or error.name
    return problem_response(Refusal(error.code or 500, text, headers=kept))
