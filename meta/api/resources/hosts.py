"""REST operations on hosts: lists, counts, labels, and retirement."""

from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from meta.access.roles import Rule
from meta.api.framework.operation import Call, Reply, operation
from meta.api.framework.problems import Refusal
from meta.api.resources.records import edit
from meta.api.schemas.basics import Hostname
from meta.api.schemas.queries import AgentQuery, CountsQuery, EditQuery, HostsQuery, ProgressQuery, WhyQuery
from meta.api.schemas.types import (
    ChangeView,
    Counts,
    Drifts,
    EditView,
    Failures,
    Hosts,
    LabelEdit,
    Labels,
    LabelsBody,
    NameDoubts,
    NameDoubtView,
    RetirementBody,
    States,
)
from meta.edits import operations
from meta.edits.editor import Done
from meta.errors import NotThere
from meta.hosts import similar_names
from meta.hosts.similar_names import no_hosts
from meta.queries import counting, failures, host_pages
from meta.queries.host_pages import HostFilter
from meta.queries.progress import Asked, progress
from meta.queries.representations import HostView, Progress
from meta.records import history
from meta.records.files import load
from meta.records.model import RecordSet
from meta.records.selectors import Glob, Selector
from meta.records.selectors import Hosts as HostsSelector


@operation(
    "GET",
    "/hosts",
    Rule.VIEWER,
    "List the hosts that match these conditions, by name",
    query=HostsQuery,
    answers={200: Hosts},
)
def get_hosts(call: Call) -> Reply:
    q, service = call.query, call.service
    wanted = HostFilter(**{key: getattr(q, key) for key in HostFilter._fields})
    page = host_pages.page(service.table, wanted, call.now, service.ages, q.cursor, q.limit, service.counts.parked)
    is_none = q.name and not page.hosts and not page.next
    meant = similar_names.nearly_selecting(Glob(q.name), service.table.folded_names()) if is_none else []
    return Reply(200, Hosts(page.hosts, page.next, *meant))


@operation(
    "GET",
    "/hosts/{host}",
    Rule.VIEWER,
    "Show one host",
    parts={"host": Hostname},
    answers={200: HostView},
    refusals=[404],
)
def get_host(call: Call) -> Reply:
    return _host(call)


@operation(
    "PUT",
    "/hosts/{host}/labels",
    Rule.EDITOR,
    "Replace all labels of a host, which need not have reported yet",
    parts={"host": Hostname},
    query=EditQuery,
    body=LabelsBody,
    answers={200: EditView},
)
def put_labels(call: Call) -> Reply:
    host = call.path["host"]

    def change(before: RecordSet) -> RecordSet:
        former = dict.fromkeys(before.labels.get(host, {}))
        return operations.set_labels(before, host, former | call.body.labels)

    return edit(call, "label", change, of_records=False)


@operation("GET", "/labels", Rule.VIEWER, "List the labels in use, by key", answers={200: Labels})
def get_labels(call: Call) -> Reply:
    return Reply(200, Labels(host_pages.labels(call.service.records)))


@operation(
    "POST",
    "/labels",
    Rule.EDITOR,
    "Set and remove labels of some hosts; their other labels stay",
    query=EditQuery,
    body=LabelEdit,
    answers={200: EditView},
    refusals=[404],
)
def edit_labels(call: Call) -> Reply:
    body = call.body
    both = sorted(set(body.set) & set(body.remove))
    if both or not (body.set or body.remove):
        raise Refusal(400, f"{both[0]} is both set and removed" if both else "give labels to set, or keys to remove")
    wanted = body.set | dict.fromkeys(body.remove)

    def change(before: RecordSet) -> RecordSet:
        table = call.service.table
        new = [one for one in body.hosts if body.known and one not in before.labels and table.get(one) is None]
        if new:
            raise NotThere(no_hosts(new, table.folded_names()))
        return _labelled(before, body.hosts, wanted)

    return edit(call, "label", change, of_records=False)


def _labelled(records: RecordSet, hosts: Iterable[str], wanted: Mapping[str, str | None]) -> RecordSet:
    for host in dict.fromkeys(hosts):
        records = operations.set_labels(records, host, wanted)
    return records


@operation(
    "PUT",
    "/hosts/{host}/retirement",
    Rule.EDITOR,
    "Retire a host until it reports again",
    parts={"host": Hostname},
    query=WhyQuery,
    answers={200: HostView},
    refusals=[404],
)
def put_retirement(call: Call) -> Reply:
    _put_aside(call, [call.path["host"]], retired=True)
    return _host(call)


@operation(
    "DELETE",
    "/hosts/{host}/retirement",
    Rule.EDITOR,
    "Take back a retired host",
    parts={"host": Hostname},
    query=WhyQuery,
    answers={200: HostView},
    refusals=[404],
)
def delete_retirement(call: Call) -> Reply:
    _put_aside(call, [call.path["host"]], retired=False)
    return _host(call)


@operation(
    "POST",
    "/retirements",
    Rule.EDITOR,
    "Retire some hosts until they report again, or take them back: all or none",
    query=WhyQuery,
    body=RetirementBody,
    answers={200: EditView},
    refusals=[404],
)
def edit_retirements(call: Call) -> Reply:
    done = _put_aside(call, call.body.hosts, call.body.retired)
    return Reply(200, EditView(done.revision, ChangeView.of(done.changes), {}))


def _put_aside(call: Call, hosts: Iterable[str], retired: bool) -> Done:
    names = list(dict.fromkeys(hosts))
    for name in names:
        if call.service.table.get(name) is None:
            raise _unknown(call, name)
    edit = history.Edit(call.now, call.who.name, call.query.why, "retire" if retired else "unretire")
    return call.service.set_aside(edit, names, retired)


def _selected(call: Call) -> Selector | None:
    """The selector of a query; None: all hosts."""
    return load.parse_selector(call.query.selector, "selector") if call.query.selector else None


@operation(
    "GET",
    "/counts",
    Rule.VIEWER,
    "Count hosts by agent, version and status",
    query=CountsQuery,
    answers={200: Counts},
)
def get_counts(call: Call) -> Reply:
    about = call.service.table, call.now, call.query.agent, _selected(call)
    return Reply(200, Counts(counting.counts(*about), failures.by_agent(*about)))


@operation(
    "GET",
    "/failures",
    Rule.VIEWER,
    "Count the hosts on which the change to the desired state failed, by reason",
    query=AgentQuery,
    answers={200: Failures},
)
def get_failures(call: Call) -> Reply:
    return Reply(200, Failures(*failures.failures(call.service.table, call.now, call.query.agent)))


@operation(
    "GET",
    "/progress",
    Rule.VIEWER,
    "Show how far an agent's change has come, on all hosts or some",
    query=ProgressQuery,
    answers={200: Progress},
    refusals=[404],
)
def get_progress(call: Call) -> Reply:
    q, service = call.query, call.service
    selector = _selected(call)
    if isinstance(selector, HostsSelector) and (
        new := [one for one in selector.hosts if service.table.get(one) is None]
    ):
        raise NotThere(no_hosts(sorted(new), service.table.folded_names()))
    behind = service.behind()  # read first, so that the progress is at least as new
    asked = Asked(q.agent, selector, q.include_lost, q.failed_before.split(","))
    found = service.clock.at_one_time(lambda now: progress(service.table, asked, now, service.ages))
    is_none = selector is not None and not found.judged + found.left
    meant = similar_names.nearly_selecting(selector, service.table.folded_names()) if selector and is_none else []
    return Reply(200, replace(found, behind=behind or found.behind, hint="".join(meant)))


@operation("GET", "/states", Rule.VIEWER, "Count hosts by state", answers={200: States})
def get_states(call: Call) -> Reply:
    table = call.service.table
    doubled = len(table.doubled(call.now))
    return Reply(200, States(**counting.states(table, call.now, call.service.ages), doubled=doubled))


@operation(
    "GET",
    "/drift",
    Rule.VIEWER,
    "Count the hosts that are not as desired, by agent and desired version",
    query=AgentQuery,
    answers={200: Drifts},
)
def get_drift(call: Call) -> Reply:
    return Reply(200, Drifts(counting.drift(call.service.table, call.query.agent)))


@operation(
    "GET",
    "/names",
    Rule.VIEWER,
    "List names of hosts that differ only in case or a final dot, or that any machine may have",
    answers={200: NameDoubts},
)
def get_names(call: Call) -> Reply:
    found = similar_names.doubtful(call.service.table.folded_names())
    return Reply(200, NameDoubts([NameDoubtView(one.names, one.why) for one in found]))


def _host(call: Call) -> Reply:
    found = host_pages.find(
        call.service.table, call.path["host"], call.now, call.service.ages, call.service.counts.parked
    )
    if found is None:
        raise _unknown(call, call.path["host"])
    return Reply(200, found)


def _unknown(call: Call, host: str) -> Refusal:
    return Refusal(404, no_hosts([host], call.service.table.folded_names()))
