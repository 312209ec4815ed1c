"""Generates the OpenAPI 3.1 document from the operations and their types. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from meta.access.roles import Rule
from meta.api.framework.operation import FILE, PREFIX, SECRET, Operation
from meta.api.framework.problems import CONTENT_TYPE, title
from meta.api.schemas.basics import END
from meta.api.schemas.types import Problem
from updater.wire.heartbeat import VERSION

JSON, BYTES = "application/json", "application/octet-stream"
ANY = (400, 413, 429, 503, 504)  # refusals of any operation; 504: the database did not say whether it was done
_HEADERS = {
    "If-Match": "The ETag of the version that the edit is based on; required to change an existing thing.",
    SECRET: "32 to 128 random characters, chosen by the host. A request with the same ones is the same enrolment, and gets "
    "the same token, which is derived from them.",
    "If-None-Match": "`*` to create a thing that must not exist yet, or an ETag that the client already has.",
}
_PARTS = re.compile(r"{(\w+)}")


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document as JSON data."""
    listed = list(operations)
    schemas = _Schemas(listed)
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "meta", "version": VERSION, "description": "The desired state of every host's agents."},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """The JSON schemas of all types in use, with references between them."""

    def __init__(self, operations: Iterable[Operation]):
        kinds = [kind for operation in operations for kind in _kinds(operation)]
        template = "#/components/schemas/{name}"
        schemas, components = msgspec.json.schema_components([*kinds, Problem], ref_template=template)
        self._all = list(zip([*kinds, Problem], map(_portable, schemas), strict=True))
        self.components: Any = _portable(components)

    def of(self, kind: Any) -> Any:
        return next(schema for known, schema in self._all if known == kind)


def _kinds(operation: Operation) -> list[Any]:
    kinds = [*operation.parts.values(), *operation.answers.values(), operation.body]
    kinds += [field.type for field in _fields(operation)]
    return [kind for kind in kinds if kind is not None and kind is not FILE]


def _fields(operation: Operation) -> Iterable[msgspec.structs.FieldInfo]:
    return msgspec.structs.fields(operation.query) if operation.query else ()


def _portable(schema: Any) -> Any:
    """The schema with portable patterns instead of Python's."""
    if isinstance(schema, dict):
        return {key: _portable(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_portable(value) for value in schema]
    return schema.replace(END, "$") if isinstance(schema, str) else schema


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    made = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"For {operation.rule.value}.",
        "parameters": _parameters(operation, schemas),
        "responses": _responses(operation, schemas),
        "security": [] if operation.rule is Rule.PUBLIC else [{"token": []}],
    }
    if operation.body is FILE:
        made["requestBody"] = {"required": True, "content": {BYTES: {}}}
    elif operation.body is not None:
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas.of(operation.body)}}}
    return made


def _parameters(operation: Operation, schemas: _Schemas) -> list[dict[str, Any]]:
    parts = [
        {"name": part, "in": "path", "required": True, "schema": schemas.of(operation.parts[part])}
        for part in _PARTS.findall(operation.path)
    ]
    queries = [
        {"name": field.encode_name, "in": "query", "schema": schemas.of(field.type)} for field in _fields(operation)
    ]
    headers = [
        {"name": name, "in": "header", "description": _HEADERS[name], "schema": {"type": "string"}}
        for name in operation.conditional
    ]
    return parts + queries + headers


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    answers = {str(status): _answer(status, kind, schemas) for status, kind in operation.answers.items()}
    refused = {*operation.refusals, *ANY} | (set() if operation.rule is Rule.PUBLIC else {401, 403})
    if operation.body is not None:
        refused.add(411 if operation.body is FILE else 415)
    content = {CONTENT_TYPE: {"schema": schemas.of(Problem)}}
    problems = {str(status): {"description": title(status), "content": content} for status in sorted(refused)}
    return answers | problems


def _answer(status: int, kind: Any, schemas: _Schemas) -> dict[str, Any]:
    content: Mapping[str, Any] = {}
    if kind is FILE:
        content = {BYTES: {}, "application/gzip": {}, "text/plain; charset=utf-8": {}}
    elif kind is not None:
        content = {JSON: {"schema": schemas.of(kind)}}
    return {"description": title(status)} | ({"content": content} if content else {})
