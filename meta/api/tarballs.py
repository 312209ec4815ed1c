"""Tarballs by REST: what is published, and publishing."""

import re
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from meta import tarballs
from meta.api.basics import TARBALL
from meta.api.operation import FILE, Call, Operation, Reply, operation
from meta.api.problems import Refusal
from meta.api.queries import UploadQuery
from meta.api.types import Tarballs, TarballView
from meta.auth import Rule
from meta.errors import MetaError

_FileName = Annotated[str, Meta(pattern=TARBALL)]
_STATUS = {tarballs.BadTarball: 400, tarballs.Published: 409}


@operation("GET", "/tarballs", Rule.VIEWER, "What is published", answers={200: Tarballs}, refusals=[404])
def get_tarballs(call: Call) -> Reply:
    return Reply(200, Tarballs([TarballView(*one) for one in tarballs.listing(_directory(call))]))


@operation(
    "GET",
    "/tarballs/{file}",
    Rule.READ,
    "The bytes of a published file",
    parts={"file": str},
    answers={200: FILE, 206: FILE, 304: None},
    refusals=[404, 416],
)
def get_tarball(call: Call) -> Reply:
    return Reply(200, file=call.path["file"])


@operation(
    "PUT",
    "/tarballs/{file}",
    Rule.EDITOR,
    "Publish NAME-VERSION.tar.gz; a published name never gets other bytes",
    parts={"file": _FileName},
    query=UploadQuery,
    body=FILE,
    answers={200: TarballView, 201: TarballView},
    refusals=[404, 409],
)
def put_tarball(call: Call) -> Reply:
    name, directory = call.path["file"], _directory(call)
    if call.stream is None or not re.fullmatch(tarballs.PUBLISHED, name):
        raise Refusal(400, "a tarball is called NAME-VERSION.tar.gz")
    try:
        tarball, is_new = tarballs.publish(directory, name, call.stream, call.length, call.query.sha256)
    except tuple(_STATUS) as e:
        raise _refused(e) from e
    return Reply(201 if is_new else 200, TarballView(*tarball))


OPERATIONS: tuple[Operation, ...] = (get_tarballs, get_tarball, put_tarball)


def _directory(call: Call) -> Path:
    directory = call.service.settings.tarballs
    if directory is None:
        raise Refusal(404, "this meta offers no tarballs; start it with --tarballs DIRECTORY")
    return directory


def _refused(error: MetaError) -> Refusal:
    return Refusal(_STATUS[type(error)], str(error))
