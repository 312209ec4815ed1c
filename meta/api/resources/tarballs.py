"""REST operations on tarballs: list, publish, and remove those that nothing needs."""

import logging
import re
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from meta.access.roles import Rule
from meta.api.framework.operation import FILE, Call, Reply, operation
from meta.api.framework.problems import Refusal
from meta.api.schemas.basics import TARBALL
from meta.api.schemas.queries import PruneQuery, UploadQuery
from meta.api.schemas.tarballs import KeptView, PruneBody, PrunedView, Tarballs, TarballView
from meta.artifacts import pruning, tarballs
from meta.artifacts.tarballs import Tarball
from meta.edits import operations
from meta.errors import MetaError, TryLater
from meta.records import history
from meta.records.publications import Publication, named_by
from updater.wire.names import name_problem, version_problem

log = logging.getLogger(__name__)
_FileName = Annotated[str, Meta(pattern=TARBALL)]
_STATUS = {tarballs.BadTarball: 400, tarballs.Published: 409}


@operation("GET", "/tarballs", Rule.VIEWER, "List the published tarballs", answers={200: Tarballs}, refusals=[404])
def get_tarballs(call: Call) -> Reply:
    records = call.service.records
    desired, hosts = named_by(records.records), pruning.run_by(call.service.table)
    known = [one.name for one in records.records]
    found = []
    for tarball in tarballs.listing(_directory(call)):
        view = _view(tarball, records.published.get(tarball.name), known)
        view.desired_by, view.hosts = desired.get(tarball.name, []), hosts[tarball.name]
        found.append(view)
    return Reply(200, Tarballs(found))


@operation(
    "GET",
    "/tarballs/{file}",
    Rule.READ,
    "Download a published file",
    parts={"file": str},
    answers={200: FILE, 206: FILE, 304: None},
    refusals=[404, 412],
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
        raise Refusal(400, "the name of a tarball must be NAME-VERSION.tar.gz")
    agent, version = tarballs.split(name, _names(call))
    if name_problem(agent) or version_problem(version):
        raise Refusal(400, f"{name} is no valid name for a tarball of {agent}: it must be NAME-VERSION.tar.gz")
    try:
        tarball, is_new = tarballs.publish(directory, name, call.stream, call.length, call.query.sha256)
    except tuple(_STATUS) as e:
        raise _refused(e) from e
    made = Publication(agent, version, tarball.size, tarball.md5, tarball.sha256, call.who.name, call.now)
    edit = history.Edit(call.now, call.who.name, call.query.why, "publish")
    with call.service.publishing:
        done = call.service.editor.apply(edit, lambda before: operations.publish(before, name, made))
        if tarballs.find(directory, name) is None:
            raise TryLater(f"{name} was removed in the meantime; publish it again")
    if done.changes:
        log.info("%s is published: %d bytes, sha256 %s, by %s", name, made.size, made.sha256, made.who)
    return Reply(201 if is_new else 200, _view(tarball, done.records.published[name], [agent]))


@operation(
    "POST",
    "/tarballs/prune",
    Rule.EDITOR,
    "Remove published tarballs that nothing needs any more",
    query=PruneQuery,
    body=PruneBody,
    answers={200: PrunedView},
    refusals=[404],
)
def prune_tarballs(call: Call) -> Reply:
    directory, body = _directory(call), call.body
    terms = pruning.Terms(body.keep, body.older, None if body.files is None else frozenset(body.files))
    if call.query.dry_run:
        pruned = pruning.preview(call.service, directory, terms, call.now)
    else:
        edit = history.Edit(call.now, call.who.name, call.query.why, "prune")
        pruned = pruning.prune(call.service, directory, terms, edit)
    gone = [_view(Tarball(file, one.size, "", "", one.at), one, []) for file, one in pruned.gone.items()]
    kept = [KeptView(one.file, one.why) for one in pruned.stays]
    return Reply(200, PrunedView(pruned.revision, gone, kept, call.query.dry_run))


def _names(call: Call) -> list[str]:
    """The agents that a tarball may belong to: the one in the query, or all with a record."""
    return [call.query.agent] if call.query.agent else [one.name for one in call.service.records.records]


def _view(tarball: Tarball, made: Publication | None, known: list[str]) -> TarballView:
    if made is None or (tarball.md5 and made.md5 != tarball.md5):
        return TarballView(*tarball, *tarballs.split(tarball.name, known))
    digests = made.md5, made.sha256
    return TarballView(
        tarball.name, tarball.size, *digests, tarball.modified, made.agent, made.version, made.who, made.at
    )


def _directory(call: Call) -> Path:
    directory = call.service.settings.tarballs
    if directory is None:
        raise Refusal(404, "this meta serves no tarballs; start it with --tarballs DIRECTORY")
    return directory


def _refused(error: MetaError) -> Refusal:
    return Refusal(_STATUS[type(error)], str(error))
