"""REST operations on the history of records: list, rollback, bans."""

import msgspec

from meta.access.roles import Rule
from meta.api.framework.conditions import expected
from meta.api.framework.operation import Call, Reply, operation
from meta.api.framework.problems import Refusal
from meta.api.resources.records import edit
from meta.api.schemas.basics import AgentName, Number, Version
from meta.api.schemas.queries import EditQuery, RevisionsQuery
from meta.api.schemas.types import Bans, BanView, ChangeView, EditView, Revisions, RevisionView, RollbackBody
from meta.edits import operations
from meta.records import history
from meta.records.model import Ban, Record, RecordSet
from meta.records.rollbacks import ROLLBACK, Way
from meta.suggestions import did_you_mean


@operation(
    "GET",
    "/revisions",
    Rule.VIEWER,
    "List the committed edits, newest first",
    query=RevisionsQuery,
    answers={200: Revisions},
)
def get_revisions(call: Call) -> Reply:
    query = call.query
    found = call.service.store.revisions(query.agent, query.before, query.limit)
    more = len(found) == query.limit and found[-1].number > 1
    return Reply(200, Revisions([_view(one) for one in found], str(found[-1].number) if more else ""))


@operation(
    "GET",
    "/revisions/{number}",
    Rule.VIEWER,
    "Show one edit",
    parts={"number": Number},
    answers={200: RevisionView},
    refusals=[404],
)
def get_revision(call: Call) -> Reply:
    revision = call.service.store.revision(call.path["number"])
    if revision is None:
        raise Refusal(404, f"there is no revision {call.path['number']}")
    return Reply(200, _view(revision))


@operation(
    "POST",
    "/rollback",
    Rule.EDITOR,
    "Restore earlier records, or that of one agent; bans and labels stay",
    query=EditQuery,
    body=RollbackBody,
    answers={200: EditView},
    refusals=[404, 409, 412],
    conditional=["If-Match"],
)
def roll_back(call: Call) -> Reply:
    """Roll back. If-Match names a revision of all records; the restored ones must not have changed since."""
    body, editor, notes = call.body, call.service.editor, list[str]()
    shown = expected(call.if_match, "") if call.if_match else None
    if body.why and not call.query.why:
        call.query.why = body.why
    agent, to = (None if value is msgspec.UNSET else value for value in (body.agent, body.revision))
    if agent is None and to is None:
        raise Refusal(400, "give a revision to restore, or an agent whose last change to undo")

    def change(before: RecordSet) -> RecordSet:
        if shown is not None:
            editor.require_all(before, shown, agent or "")
        if agent is None:
            return editor.rollback(before, to or 0)
        way = _way_back(call, before, agent, to)
        notes[:] = (
            [_taken_back(agent, way.done_by)] if way.done_by else _still_ordered(before.record(agent), way.record)
        )
        return operations.restore(before, agent, way.record)

    return edit(call, ROLLBACK, change, notes=notes)


def _way_back(call: Call, before: RecordSet, agent: str, to: int | None) -> Way:
    if before.record(agent) is None and not call.service.store.revisions(agent, limit=1):
        names = (one.name for one in before.records)
        raise Refusal(404, f"there is no agent {agent}{did_you_mean(agent, names)}")
    return call.service.editor.way_back(before, agent, to)


def _taken_back(agent: str, by: history.Revision) -> str:
    why = f": {by.why}" if by.why else ""
    return f"the last change of {agent} was rolled back already, in revision {by.number} by {by.who or 'unknown'}{why}"


def _still_ordered(before: Record | None, after: Record | None) -> list[str]:
    """Return a note if overrides keep the version that the record loses, as of a canary that was edited before."""
    if before is None or after is None or before.release.version == after.release.version:
        return []
    version = before.release.version
    kept = [one.selector.in_words() for one in after.overrides if one.release and one.release.version == version]
    if not kept:
        return []
    hint = f"to undo that too, name the revision before it: meta history {before.name}"
    return [f"{before.name} {version} stays for {', '.join(kept)}; {hint}"]


@operation("GET", "/bans", Rule.VIEWER, "List the banned versions, which no host is told to run", answers={200: Bans})
def get_bans(call: Call) -> Reply:
    return Reply(
        200, Bans([BanView(one.agent, one.version, one.why, one.who, one.at) for one in call.service.records.bans])
    )


@operation(
    "PUT",
    "/bans/{agent}/{version}",
    Rule.EDITOR,
    "Ban a version: no host is told to run it",
    parts={"agent": AgentName, "version": Version},
    query=EditQuery,
    answers={200: EditView},
)
def put_ban(call: Call) -> Reply:
    new = Ban(call.path["agent"], call.path["version"], call.query.why, call.who.name, call.now)
    return edit(call, "ban", lambda before: operations.ban(before, new), of_records=False)


@operation(
    "DELETE",
    "/bans/{agent}/{version}",
    Rule.EDITOR,
    "Lift a ban: the version may be ordered again",
    parts={"agent": AgentName, "version": Version},
    query=EditQuery,
    answers={200: EditView},
    refusals=[404],
)
def delete_ban(call: Call) -> Reply:
    agent, version = call.path["agent"], call.path["version"]

    return edit(call, "unban", lambda before: operations.unban(before, agent, version), of_records=False)


def _view(revision: history.Revision) -> RevisionView:
    changes = ChangeView.of(revision.changes)
    return RevisionView(revision.number, revision.at, revision.who, revision.why, revision.action, changes)
