"""REST operations on records: all or one, read, written and explained."""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import msgspec

from meta.access.roles import Rule
from meta.api.framework.conditions import etag, expected, is_known
from meta.api.framework.operation import MAX_RECORDS, Call, Reply, operation
from meta.api.framework.problems import Refusal
from meta.api.schemas.basics import AgentName, Hostname
from meta.api.schemas.documents import RecordBody, RecordEdit, RecordsBody
from meta.api.schemas.queries import ApplyQuery, EditQuery
from meta.api.schemas.types import ChangeView, EditView, ExplainedAgent, Explanation
from meta.artifacts import addresses, tarballs
from meta.edits import operations, reach, releases
from meta.edits.editor import Change
from meta.errors import Conflict
from meta.hosts import similar_names
from meta.queries import failures
from meta.records import advice, capacity, history, removals
from meta.records.explanation import explain
from meta.records.files import load
from meta.records.model import Record, RecordSet, as_fields
from meta.suggestions import did_you_mean

_CONDITIONS = ("If-Match", "If-None-Match")
_EDIT_REFUSALS = (404, 409, 412, 428)


@operation(
    "GET",
    "/records",
    Rule.VIEWER,
    "Show all records",
    answers={200: RecordsBody, 304: None},
    conditional=["If-None-Match"],
)
def get_records(call: Call) -> Reply:
    records = call.service.records
    if is_known(call.if_none_match, records.revision):
        return Reply(304, headers={"ETag": etag(records.revision)})
    return Reply(200, {"agents": as_fields(records.records)}, {"ETag": etag(records.revision)})


@operation(
    "PUT",
    "/records",
    Rule.EDITOR,
    "Replace all records",
    query=ApplyQuery,
    body=RecordsBody,
    most=MAX_RECORDS,
    check=lambda data: load.parse_data(data, "records"),
    answers={200: EditView},
    refusals=_EDIT_REFUSALS,
    conditional=["If-Match"],
)
def put_records(call: Call) -> Reply:
    revision = expected(call.if_match, "")

    def change(before: RecordSet) -> RecordSet:
        if revision is not None:
            call.service.editor.require_all(before, revision)
        after = operations.apply(before, call.body.records)
        if not (call.query.dry_run or call.query.confirm):
            removals.require(before, after, "send the query confirm=true")
        return after

    reply = edit(call, "apply", change)
    if call.query.dry_run:
        reply.body.removals += _removals(call)
    return reply


def _removals(call: Call) -> list[str]:
    before = call.service.records
    return removals.mass_removal(before, operations.apply(before, call.body.records))


@operation(
    "POST",
    "/difference",
    Rule.VIEWER,
    "Show what replacing all records would change, and on how many hosts; nothing is changed",
    body=RecordsBody,
    most=MAX_RECORDS,
    check=lambda data: load.parse_data(data, "records"),
    answers={200: EditView},
)
def compare_records(call: Call) -> Reply:
    view, _ = _seen(call, lambda before: operations.apply(before, call.body.records))
    view.removals += _removals(call)
    return Reply(200, view)


@operation(
    "GET",
    "/records/{agent}",
    Rule.VIEWER,
    "Show the record of one agent",
    parts={"agent": AgentName},
    answers={200: RecordBody, 304: None},
    refusals=[404],
    conditional=["If-None-Match"],
)
def get_record(call: Call) -> Reply:
    records = call.service.records  # read once, since others may be put in force at any time
    record = _record(records, call.path["agent"])
    headers = {"ETag": etag(records.edited.get(record.name, 0))}
    if is_known(call.if_none_match, records.edited.get(record.name, 0)):
        return Reply(304, headers=headers)
    return Reply(200, as_fields([record])[0], headers)


@operation(
    "PUT",
    "/records/{agent}",
    Rule.EDITOR,
    "Create or replace the record of one agent",
    parts={"agent": AgentName},
    query=EditQuery,
    body=RecordBody,
    most=MAX_RECORDS,
    check=lambda data: load.parse_record(data, "record"),
    answers={200: EditView, 201: EditView},
    refusals=_EDIT_REFUSALS,
    conditional=_CONDITIONS,
)
def put_record(call: Call) -> Reply:
    agent, new = call.path["agent"], call.body
    if new.name != agent:
        text = f"must be {agent}: a record is not renamed by an edit"
        raise Refusal(400, f"name {text}", problems=[("name", text)])
    return edit_record(call, "set", lambda before: operations.put_record(before, new))


@operation(
    "PATCH",
    "/records/{agent}",
    Rule.EDITOR,
    "Set or unset fields of the record, or of one override; a new agent needs a version and a tarball",
    parts={"agent": AgentName},
    query=EditQuery,
    body=RecordEdit,
    most=MAX_RECORDS,
    answers={200: EditView, 201: EditView},
    refusals=_EDIT_REFUSALS,
    conditional=_CONDITIONS,
)
def patch_record(call: Call) -> Reply:
    agent, wanted = call.path["agent"], msgspec.to_builtins(call.body)  # without what is unset
    if ("set" in wanted) == ("unset" in wanted):
        raise Refusal(400, "give either `set` or `unset`")
    selector = load.parse_selector(wanted["selector"], "selector") if "selector" in wanted else None
    if "set" in wanted:
        to = (agent, wanted["set"], selector)
        return edit_record(call, "set", lambda r: operations.set_fields(r, *to), note=lambda r: releases.doubt(r, *to))
    if not wanted["unset"] and selector is None:
        raise Refusal(400, "give the fields to unset; to delete the record use DELETE")
    return edit_record(call, "unset", lambda before: operations.unset_fields(before, agent, wanted["unset"], selector))


@operation(
    "DELETE",
    "/records/{agent}",
    Rule.EDITOR,
    "Delete the record of one agent; hosts get no more orders for it, and keep it running",
    parts={"agent": AgentName},
    query=EditQuery,
    answers={200: EditView},
    refusals=_EDIT_REFUSALS,
    conditional=["If-Match"],
)
def delete_record(call: Call) -> Reply:
    agent = call.path["agent"]
    return edit_record(call, "unset", lambda before: operations.delete_record(before, agent), there_is_one=True)


@operation(
    "GET",
    "/explain/{host}",
    Rule.VIEWER,
    "Show the desired state of each agent on this host, and what sets it",
    parts={"host": Hostname},
    answers={200: Explanation},
)
def get_explanation(call: Call) -> Reply:
    host, records = call.path["host"], call.service.records
    agents = [msgspec.convert(one, ExplainedAgent, from_attributes=True) for one in explain(records, host)]
    return Reply(200, Explanation(host, dict(records.labels.get(host, {})), agents))


def edit(call: Call, action: str, change: Change, *, of_records: bool = True, notes: Sequence[str] = ()) -> Reply:
    """Make this edit for the caller.

    of_records: refuse it if a file manages the records; notes: remarks for the answer, which the change may add to.
    """
    if of_records:
        _refuse_if_a_file_rules(call)
    view = _made(call, action, change)[0]
    view.notes += notes
    return Reply(200, view)


def _made(call: Call, action: str, change: Change) -> tuple[EditView, RecordSet]:
    """Return (what the edit did, or would do; the records after it)."""
    asked = call.query
    if asked.dry_run:
        return _seen(call, change)
    done = call.service.editor.apply(history.Edit(call.now, call.who.name, asked.why, asked.action or action), change)
    return EditView(done.revision, ChangeView.of(done.changes), {}), done.records


def _seen(call: Call, change: Change) -> tuple[EditView, RecordSet]:
    """Like `_made`, for a dry run."""
    seen = call.service.editor.preview(change)
    reached = reach.reached(call.service.table, seen.after) if seen.changes else reach.Reached({}, frozenset())
    view = EditView(seen.revision, ChangeView.of(seen.changes), reached.affected, True)
    if any(one.kind == history.RECORD for one in seen.changes):
        names = similar_names.doubts(call.service.records, seen.after, call.service.table.folded_names())
        view.warnings = [*names.warnings, *_warnings(call, seen.after, reached.brought)]
        view.notes += names.notes
    else:  # a lifted ban or new labels may order a version that was rolled back
        said = [failures.rolled_back(call.service.table, *one) for one in sorted(reached.brought)]
        view.warnings = list(filter(None, said))
    return view, seen.after


def _warnings(call: Call, after: RecordSet, brought: Collection[tuple[str, str]]) -> list[str]:
    """Warnings about what is new in these records. brought: (agent, version) that are new to hosts."""
    service = call.service
    directory, place = service.settings.tarballs, None
    if directory is not None:
        mine = addresses.authorities(call.origin[1], call.origin[0], service.names, service.settings.port)
        place = advice.Place(
            lambda base: addresses.path_here(base, mine),
            lambda path: tarballs.find(directory, path) is not None,
            lambda: [one.name for one in tarballs.listing(directory)],
        )
    found = advice.warnings(service.records, after, place, partial(failures.rolled_back, service.table), brought)
    return [*found, *filter(None, [capacity.doubt(after, service.known_hosts)])]


def _refuse_if_a_file_rules(call: Call) -> None:
    if file := call.service.file:
        then = f"meta reload --url {call.service.settings.url}"
        raise Refusal(409, f"the records are managed in {file}: edit that file, then run on its machine: {then}")


def edit_record(
    call: Call,
    action: str,
    change: Change,
    *,
    there_is_one: bool = False,
    note: Callable[[RecordSet], str] = lambda _after: "",
) -> Reply:
    """Edit one record, if it has not changed since it was read.

    there_is_one: answer 404 if it does not exist; note: returns a remark on the records after the edit.
    """
    agent, revision = call.path["agent"], expected(call.if_match, call.if_none_match)

    def checked(before: RecordSet) -> RecordSet:
        if there_is_one:
            _record(before, agent)
        if revision is not None:
            call.service.editor.require(before, agent, revision)
        elif before.record(agent) is None:
            raise Conflict(agent, before.revision, 0, [])
        return change(before)

    _refuse_if_a_file_rules(call)
    view, after = _made(call, action, checked)
    view.notes += filter(None, [note(after)])
    is_new = any(one.kind == history.RECORD and one.before is None for one in view.changes)
    edited = after.edited.get(agent, 0)  # of this edit, not of the records in force now
    return Reply(201 if is_new and not view.dry_run else 200, view, {"ETag": etag(edited)} if edited else {})


def _record(records: RecordSet, agent: str) -> Record:
    record = records.record(agent)
    if record is None:
        names = (one.name for one in records.records)
        raise Refusal(404, f"there is no agent {agent}{did_you_mean(agent, names)}")
    return record
