"""`meta hosts`, `host` and `explain`: what hosts run, what is desired there, and why."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from meta.choices import STATES
from meta.cli import options
from updater.wire.text import visible

if TYPE_CHECKING:
    from meta.api.schemas.types import Explanation
    from meta.cli.client import Client
    from meta.cli.views.show import Cell
    from meta.queries.representations import AgentView, HostView


@click.command(short_help="List hosts.")
@click.option(
    "--state", type=click.Choice(STATES), help="Only hosts in this state; retired ones are shown only with it."
)
@click.option("--agent", default="", metavar="NAME", help="Only with this agent.", **options.OF_AN_AGENT)
@click.option(
    "--version",
    default="",
    metavar="VERSION",
    help="Only with an agent at this version.",
    shell_complete=options.versions,
)
@click.option("--status", default="", metavar="STATUS", help="Only with an agent in this status: started, stoped...")
@click.option("--label", default="", metavar="KEY[=VALUE]", help="Only with this label.", shell_complete=options.labels)
@click.option("--name", default="", metavar="GLOB", help="Only hosts with names like 'web-*'.")
@click.option("--drift/--no-drift", default=None, help="Only hosts that are not as desired, or only those that are.")
@click.option("--failed", is_flag=True, help="Only hosts on which the change to the desired state failed.")
@click.option("--doubled", is_flag=True, help="Only names under which two machines report.")
@click.option("--parked", is_flag=True, help="Only hosts that wait at this meta, so that an edit reaches them at once.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many hosts.")
@click.option("--all", "everything", is_flag=True, help="List all hosts.")
@options.output
@options.connected
def hosts(client: "Client", limit: int, everything: bool, output: str, **wanted: Any) -> None:
    """List the hosts that match all options, by name, with their agents: NAME VERSION, the desired version if it differs, and
    why its change failed. On a terminal each host is one line, and a narrow one hides address and labels: `meta host NAME`
    shows everything.

    \b
    Examples:
      meta hosts
      meta hosts --state lost
      meta hosts --agent falcon-agent --drift
      meta hosts --failed
      meta hosts --label env=staging --all -o json | jq -r '.items[].name'
    """
    from meta.api.schemas.types import Hosts
    from meta.cli.views import host_list, show

    # Sent only if they are set, since an older meta would refuse them.
    wanted |= {key: wanted[key] or None for key in ("failed", "doubled", "parked")}
    found = Hosts([])
    for page in client.pages("/hosts", Hosts, 0 if everything else limit, **wanted):
        found.items += page.items
        found.next, found.hint = page.next, page.hint
    nothing = "" if found.items else host_list.nothing(client, wanted, found.hint)
    if show.data(found, output):
        return
    host_list.print_hosts(found.items, nothing)
    if found.next:
        click.echo(f"there are more: --all, or --limit above {len(found.items)}", err=True)


@click.command(short_help="Show one host.")
@options.host("name")
@options.output
@options.connected
def host(client: "Client", name: str, output: str) -> None:
    """Show one host: what it reported, what is desired, and the outcome of the last changes there.

    \b
    Example:
      meta host web-1.example
    """
    from meta.cli.client import at
    from meta.cli.views import show
    from meta.queries.representations import HostView

    found = client.get(at("hosts", name), HostView)
    if show.data(found, output):
        return
    show.facts(
        [
            ("host", show.Cell(found.name, "bold")),
            ("state", show.word(found.state)),
            ("last seen", show.when(found.last_seen)),
            ("first seen", show.when(found.first_seen)),
            ("address", found.address),
            *([("doubled", show.Cell(doubled(found), "red"))] if found.doubled else []),
            ("updater", found.updater_version),
            (
                "reachable at once",
                f"yes, since {show.when(found.parked)}" if found.parked else "no",
            ),
            ("labels", show.labels(found.labels)),
        ]
    )
    show.table(["agent", "version", "status", "since", "desired", "note"], [_agent_row(one) for one in found.agents])
    for line in _outcomes(found):
        show.styled(line)


def doubled(host: "HostView") -> str:
    return f"two machines report under this name, from {' and '.join(host.doubled)}: give each its own name"


def _agent_row(agent: "AgentView") -> "list[Cell | str]":
    from meta.cli.views import host_list, show

    desired = show.Cell(host_list.desired(agent), "yellow" if agent.drift else "")
    note = _note(agent)
    return [
        show.Cell(agent.name, "bold"),
        agent.version,
        show.word(agent.status),
        show.when(agent.since),
        desired,
        note,
    ]


def _note(agent: "AgentView") -> str:
    from meta.cli.views import host_list
    from updater.wire.heartbeat import BY_HAND, CHANGE

    held = f"held: {agent.held}" if agent.held else ""
    if agent.failed:
        by_hand = agent.outcome is not None and agent.outcome.reason == BY_HAND
        failed = f"{BY_HAND}: {agent.desired}" if by_hand else "its change failed"
        return f"{failed}; {held}" if held else failed
    if held:
        return held
    if agent.waits:
        return "its change is under way" if agent.waits == CHANGE else f"waits for {agent.waits}"
    if host_list.is_on_trial(agent):
        return "on trial, in its watch"
    return "not yet as desired" if agent.drift else ""


def _outcomes(host: "HostView") -> "Iterator[list[Cell]]":
    from meta.cli.views import show

    for agent in host.agents:
        if outcome := agent.outcome:
            moved = outcome.to not in ("", outcome.from_)
            way = f"{outcome.from_ or 'nothing'} -> {outcome.to}" if moved else outcome.to or outcome.from_
            when = f" {show.when(outcome.at)}" if outcome.at else ""
            rest = f"{when} at {outcome.step}: {outcome.reason or 'no reason given'}"
            yield [show.Cell(f"{agent.name} {way}: "), show.word(outcome.result), show.Cell(show.one_line_kept(rest))]
            for line in outcome.evidence.splitlines()[-10:]:
                yield [show.Cell(f"    {show.one_line_kept(line)}", "dim")]


@click.command(short_help="Show what a host is to run, and why.")
@options.host("host")
@options.output
@options.connected
def explain(client: "Client", host: str, output: str) -> None:
    """Show the desired value of each field of each agent on HOST, and which record or override sets it. The host need not have
    reported yet.

    \b
    Example:
      meta explain web-1.example
    """
    from meta.api.schemas.types import Explanation
    from meta.cli.client import at
    from meta.cli.views import show
    from meta.errors import NotThere
    from meta.queries.representations import HostView

    found = client.get(at("explain", host), Explanation)
    try:
        client.get(at("hosts", host), HostView)
    except NotThere as e:  # the answer will be right when the host comes, but its name may be wrong
        click.echo(visible(f"note: {e}"), err=True)
    if not show.data(found, output):
        _explain(found)


def _explain(found: "Explanation") -> None:
    from meta.cli.views import show

    if found.labels:
        show.facts([("labels", show.labels(found.labels))])
    rows: list[show.Row] = []
    for agent in found.agents:
        for field in agent.fields:
            value = " ".join(field.value) if isinstance(field.value, list) else str(field.value)
            by = f"override {field.override}: {field.selector}" if field.by == "override" else field.by
            rows.append([agent.agent, field.field, value, show.Cell(by, "" if field.by == "record" else "cyan")])
    show.table(["agent", "field", "value", "set by"], rows, "no record applies to this host")
    for agent in found.agents:
        if agent.ban:
            why = f": {show.one_line_kept(agent.ban.why)}" if agent.ban.why else ""
            text = f"{agent.agent} {agent.ban.version} is banned by {agent.ban.who or 'unknown'}{why}"
            show.styled([show.Cell(f"{text}: the host gets no order", "red")])
