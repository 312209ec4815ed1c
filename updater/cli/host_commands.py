"""The commands for a person on this host: why, hold, unhold, rollback, retry, enrol."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from updater import places
from updater.cli.options import CONFIG, ROOT, a_host, working_host
from updater.errors import Misconfigured, NotThere, TryLater
from updater.service.command_line import a_path
from updater.wire import durations
from updater.wire.text import trimmed, visible

if TYPE_CHECKING:
    from updater.host.context import Host
    from updater.model.memory import Memory
    from updater.wire.heartbeat import Desired


def _agents(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion: the names of this host's agents that begin with `begun`."""
    from updater.host.observe import agent_names
    from updater.model.layout import Layout

    root = context.params.get("root") or context.params.get("config_file", Path("cfg.json")).resolve().parent
    if not places.is_directory(Path(root)):
        return []
    return [name for name in agent_names(Layout(Path(root))) if name.startswith(begun)]


def _seconds(_context: click.Context, _parameter: click.Parameter, text: str) -> float:
    seconds = 0.0 if text == "0" else durations.duration(text)
    if seconds is None:
        from updater.wire.text import quoted

        raise click.BadParameter(f"{quoted(text)} is no duration like 90s, 5min or 1h")
    return seconds


def _agent_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    from updater.wire.names import name_problem

    if problem := name_problem(value):
        raise Misconfigured(problem)
    return value


AGENT = click.argument("agent", shell_complete=_agents, callback=_agent_name)


@click.command()
@CONFIG
@ROOT
@AGENT
def why(config_file: Path, root: Path | None, agent: str) -> None:
    """Explain the state of AGENT: desired, observed, the last attempt, and the next actions."""
    from updater.cli import explain
    from updater.reconcile import cycle

    host = a_host(config_file, root)
    observed = cycle.look(host, [agent])[agent]
    if not observed.current and all(order.name != agent for order in host.orders.last.orders):
        raise NotThere(f"no agent {agent} below {host.layout.root}, and meta desires none")
    for line in explain.why(host, observed, host.orders.last):
        click.echo(line)


@click.command()
@CONFIG
@ROOT
@AGENT
@click.option("--why", "reason", default="", help="Shown in the reports to meta and by `updater why`.")
def hold(config_file: Path, root: Path | None, agent: str, reason: str) -> None:
    """Leave AGENT alone: no upgrade, no start and no stop until `updater unhold`, even if meta desires one.

    A change that has begun goes on until a version runs.
    """
    from updater.host import operator_requests

    host = a_host(config_file, root)
    before = operator_requests.hold(host.layout, agent, reason)
    click.echo(f"{agent} is held already ({before}); --why TEXT changes the reason" if before else f"{agent} is held")
    _have_it_reported(host)


@click.command()
@CONFIG
@ROOT
@AGENT
def unhold(config_file: Path, root: Path | None, agent: str) -> None:
    """Let the updater change AGENT again."""
    from updater.host import operator_requests

    host = a_host(config_file, root)
    was_held = operator_requests.unhold(host.layout, agent)
    click.echo(f"{agent} is no longer held" if was_held else f"{agent} was not held")
    _have_it_reported(host)


@click.command()
@CONFIG
@ROOT
@AGENT
def rollback(config_file: Path, root: Path | None, agent: str) -> None:
    """Take AGENT back to the last version that came through its watch. It stays there until meta desires another than now.

    Without such a version: to the one before, on trial, if it ran when it was replaced and had not died.
    """
    from updater.cli import following
    from updater.host import operator_requests

    host = a_host(config_file, root)
    version, target = _rollback_target(host, agent)
    operator_requests.request_rollback(host.layout, agent, version)
    if pid := operator_requests.running_updater(host.layout):
        operator_requests.wake(pid)
    else:
        _roll_back_here(config_file, root, agent)
    following.wait_for_request(host, agent, "rollback", version)
    following.wait_for_rollback(host, agent, version, target, bool(pid))
    click.echo(f"{agent} is at {target}; `updater why {agent}` tells more")


@click.command()
@CONFIG
@ROOT
@AGENT
def retry(config_file: Path, root: Path | None, agent: str) -> None:
    """Try the desired version of AGENT again, after it was rolled back on this host or refused for its content.

    Exits with 0 once it is started, and with 1 if it is rolled back or refused again. For many hosts: meta retry.
    """
    from updater.cli import following
    from updater.host import operator_requests
    from updater.reconcile import cycle

    host = a_host(config_file, root)
    version = _to_retry(host, agent)
    operator_requests.request_retry(host.layout, agent, version)
    if pid := operator_requests.running_updater(host.layout):
        operator_requests.wake(pid)
    else:
        with working_host(config_file, root) as working:
            cycle.run(working)
    following.wait_for_request(host, agent, "retry", version)
    if pid:
        following.wait_for_retry(host, agent, version)
    memory = following.memory(host, agent)
    if failed := memory.rejected or memory.unfit:
        what = "rolled back" if memory.rejected else "refused"
        click.echo(f"{agent} {version} was {what} again: {failed.reason}", err=True)
        sys.exit(1)
    click.echo(f"{agent} is at {following.current(host, agent)}; `updater why {agent}` tells more")


@click.command()
@CONFIG
@ROOT
@click.option(
    "--token-file",
    type=a_path(dir_okay=False),
    help="The file with the enrolment token; only its owner may read it. [default: the standard input]",
)
@click.option("--again", is_flag=True, help="Replace the token that this host has already.")
@click.option(
    "--within",
    default="5min",
    show_default=True,
    metavar="TIME",
    callback=_seconds,
    help="How long to try again while meta is busy or away; 0: try once.",
)
def enrol(config_file: Path, root: Path | None, token_file: Path | None, again: bool, within: float) -> None:
    """Exchange an enrolment token for this host's own token.

    The running updater uses the token from its next heartbeat on, without a restart or a change of the configuration.
    If the command ends without an answer, run it again: meta recognises the repeated request.
    """
    from updater.meta_client import enrolment
    from updater.net import credentials

    host = a_host(config_file, root)
    enrolment.check(host, again)
    if token_file:
        token = credentials.private(token_file, "enrolment token")
    elif sys.stdin.isatty():
        token = click.prompt("Enrolment token", hide_input=True, err=True)
    else:
        token = trimmed(sys.stdin.read(credentials.LIMIT))
    enrolment.enrol(host, token, within, lambda line: click.echo(visible(f"updater: {line}"), err=True))
    click.echo(f"{host.config.reported_hostname} is enrolled with {host.config.shown_url}")


def _have_it_reported(host: "Host") -> None:
    """Wake the running updater, so that meta knows at once. If that cannot be done, say so: its next cycle follows anyway."""
    from updater.host import operator_requests

    try:
        if pid := operator_requests.running_updater(host.layout):
            operator_requests.wake(pid)
    except TryLater as e:
        click.echo(visible(f"updater: {e}"), err=True)


def _rollback_target(host: "Host", agent: str) -> tuple[str, str]:
    """The current version, and the one that a rollback takes the agent to. Raises NotThere if it cannot be rolled back."""
    from updater.cli import explain
    from updater.host import operator_requests
    from updater.model.ways_back import no_way_back
    from updater.reconcile import cycle

    operator_requests.require(host.layout, agent)
    observed = cycle.look(host, [agent])[agent]
    order = next((o for o in host.orders.last.orders if o.name == agent), None)
    if observed.held:
        raise NotThere(f"{agent} is held ({observed.held}): updater unhold {agent} first")
    if order is None or observed.current != order.version:
        raise NotThere(f"{agent} is not at the version that meta desires: there is nothing to roll back")
    if back := explain.rollback_target(observed, order, host.memories.of(agent)):
        return observed.current, back
    raise NotThere(f"{agent} is not rolled back: {no_way_back(observed.current, observed.installs)}")


def _to_retry(host: "Host", agent: str) -> str:
    """The version to try again. Raises NotThere if none was rolled back or refused."""
    from updater.host import operator_requests

    operator_requests.require(host.layout, agent)
    if held := operator_requests.held(host.layout, agent):
        raise NotThere(f"{agent} is held ({held}): updater unhold {agent} first")
    memory = host.memories.of(agent)
    order = next((o for o in host.orders.last.orders if o.name == agent), None)
    failed = {memory.rejected.order.version} if memory.rejected else set()
    failed |= {memory.unfit.version} if memory.unfit else set()
    if order is None or order.version not in failed:
        raise NotThere(_why_no_retry(host, agent, order, memory))
    return order.version


def _why_no_retry(host: "Host", agent: str, order: "Desired | None", memory: "Memory") -> str:
    """The message that explains why there is nothing to retry."""
    from updater.cli import explain
    from updater.reconcile import cycle
    from updater.wire.heartbeat import DONE

    todo = explain.next_steps(host, cycle.look(host, [agent])[agent], order, memory) if order else None
    last = memory.last
    if order and last and last.to == order.version and last.result != DONE and todo and todo.actions:
        what = f"{agent} {order.version}: {last.result} at {last.step} ({last.reason})"
        return f"{what}. Each cycle tries it again by itself, so no retry is needed"
    if todo and todo.waits:
        return f"{agent}: {todo.waits}. A retry would not change that"
    return f"the desired version of {agent} was not rolled back or refused on this host: there is nothing to retry"


def _roll_back_here(config_file: Path, root: Path | None, agent: str) -> None:
    """Roll back in this process, as no daemon runs."""
    from updater.model.actions import Source
    from updater.reconcile import cycle
    from updater.reconcile.agent_turn import converge

    with working_host(config_file, root) as host:
        order = next(o for o in host.orders.last.orders if o.name == agent)
        converge(host, order, cycle.look(host, [agent])[agent], Source.KEPT)
