"""`updater why`: explains an agent's state in a few lines: desired, observed, last attempt and next actions."""

import os
import time
from collections.abc import Iterator

from updater.artifact.download import ordered_digest
from updater.host import host_name
from updater.host.context import Host
from updater.host.last_reply import REWRITE, LastReply, Uptime, told_source
from updater.kernel import agent_environment, clocks, processes, witness
from updater.kernel.hold_ups import HoldUps
from updater.meta_client import enrolment
from updater.model.actions import Plan
from updater.model.memory import Memory
from updater.model.observed import Observed, State
from updater.model.recognised import Guess
from updater.model.trials import WATCHES
from updater.reconcile.plan import plan
from updater.wire.heartbeat import Desired, Outcome


def why(host: Host, observed: Observed, last: LastReply) -> Iterator[str]:
    """Lines about one agent. Changes nothing and does not ask meta. last: meta's last reply."""
    ran, memory = clocks.ran(), host.memories.of(observed.name)
    order = next((host.config.completed(o) for o in last.orders if o.name == observed.name), None)
    yield _line("desired", _desired(order, last, host.uptime()))
    if doubt := host_name.trouble(host):
        yield _line("name", doubt)
    yield _line("observed", f"{observed.current or 'no version'} {observed.status.text}".strip())
    yield _line("installed", ", ".join(sorted(observed.installs)) or "nothing")
    if observed.held:
        yield _line("held", observed.held)
    if order:
        yield from _next(host, observed, order, memory)
    if memory.watching(ran) and memory.trial:
        yield _line("watched", f"{memory.trial.version}, for another {memory.trial.until - ran:.0f} s")
        if words := memory.trial.replacements():
            yield _line(
                "restarted", f"{words}, which began again each time, for {WATCHES} times as long in all at most"
            )
    yield from _restarts(observed, memory)
    yield from _ports(host, observed, memory)
    yield from _remaining(memory)
    yield from _environment(host, observed, memory)
    if back := rollback_target(observed, order, memory):
        yield _line("rollback", f"goes to {back}")
    if memory.last:
        yield from _outcome(memory.last)
    if dropped := memory.dropped:
        yield _line("request", f"{_time(dropped.at)} {dropped}")
    yield _line("enrolled", enrolment.state(host))


def _restarts(observed: Observed, memory: Memory) -> Iterator[str]:
    """Why the current version was, or is, started again."""
    if (known := memory.known(observed.current)) and known.guess is Guess.SPENT:
        yield _line(
            "believed", "its processes had ended while it said started, so it was started again once: see README"
        )
    if words := died(memory):
        yield _line("died", f"{words}; each cycle starts it again")


def died(memory: Memory) -> str:
    """After how many starts the current version has died, and since when; "" if it has not, or has stayed up since."""
    return f"{memory.dying}, since {_time(memory.dying.since)}" if memory.dying else ""


def rollback_target(observed: Observed, order: Desired | None, memory: Memory) -> str:
    """The version to which `updater rollback` would take the agent; "" if it would refuse."""
    return memory.way_back(observed.current, observed.installs) if order and observed.current == order.version else ""


def _ports(host: Host, observed: Observed, memory: Memory) -> Iterator[str]:
    """The ports of an agent that is down which others hold."""
    if observed.state is not State.STOPPED or not observed.current:
        return
    install, stop = host.layout.agent(observed.name).install(observed.current), host.config.timeouts.stop
    if words := HoldUps(install, memory, host.boot, stop, lambda _: frozenset()).in_words():
        yield _line("ports", words)


def _remaining(memory: Memory) -> Iterator[str]:
    """The running processes that stopped versions left, and those of other programs in the agent's directories."""
    for version, left in memory.left.items():
        if words := witness.in_words(version, processes.alive(left)):
            yield _line("left", words)
    for version, there in memory.there.items():
        if words := witness.in_words(version, processes.alive(there), by="in"):
            yield _line("there", f"{words}, which does not belong to the agent: the directory is not removed")


def _environment(host: Host, observed: Observed, memory: Memory) -> Iterator[str]:
    """The variables of running processes that an agent would no longer get at a start."""
    if not observed.current:
        return
    install, table = host.layout.agent(observed.name).install(observed.current), processes.Table()
    given = agent_environment.set_by(host.layout.root / agent_environment.FILE)
    for one in sorted(witness.recognise(table, install, memory.known(observed.current), host.boot)):
        if more := agent_environment.more_than_given(table.environment(one), os.environ, given):
            words = f"{one.pid} {one.name} has {', '.join(more)} in its environment, which agents are not given now"
            yield _line("inherited", f"{words}: the next start removes them, unless the agent's own script sets them")


def _desired(order: Desired | None, last: LastReply, now: Uptime) -> str:
    if not last.at:
        return "unknown: meta has not answered yet"
    age = _age(max(now.seconds - last.up, 0))
    return f"{order.cmd} {order.version}, {age}" if order else f"nothing, {age}"


def _age(seconds: float) -> str:
    """The age of the last reply in words. It is approximate: an unchanged reply is written again only after REWRITE."""
    silent = f"; meta has not answered in the last {seconds - REWRITE:.0f} s" if seconds > REWRITE else ""
    return f"as of {seconds:.0f} s ago or later{silent}"


def next_steps(host: Host, observed: Observed, order: Desired, memory: Memory) -> Plan:
    """The plan of the next turn, if nothing changes before it: while meta is away, the daemon does less of an order."""
    source = told_source(host.layout.source, host.uptime())
    return plan(observed, order, memory, host.moment(observed), host.config.keep_versions, source)


def _next(host: Host, observed: Observed, order: Desired, memory: Memory) -> Iterator[str]:
    todo = next_steps(host, observed, order, memory)
    refused = _refused(host, todo, order, memory)
    for action in todo.before_install()[0].actions if refused else todo.actions:
        yield _line("next", str(action))
    if waits := refused or todo.waits:
        yield _line("waits", waits)
    elif not todo.actions:
        yield _line("waits", "for nothing, it is as desired")


def _refused(host: Host, todo: Plan, order: Desired, memory: Memory) -> str:
    """Why the version that is to be installed is not fetched, if it was refused for its content; else ""."""
    unfit, install = memory.unfit, todo.before_install()[1]
    if not unfit or not install or (install.version, host.terms) != (unfit.version, unfit.terms):
        return ""
    given = ordered_digest(order)
    if given and given.named != unfit.digest:
        return ""
    asked = "" if given else ", for which each cycle looks at its digest file"
    until = f"until it has another digest{asked}, or the order a higher attempt, or this host other limits"
    return f"{unfit.version} was refused ({unfit.reason}); it is not fetched again {until}"


def _outcome(last: Outcome) -> Iterator[str]:
    change = f"{last.from_} -> {last.to}" if last.from_ not in ("", last.to) else last.to
    yield _line("last", f"{_time(last.at)} {last.result} at {last.step}: {change}: {last.reason}")
    for line in last.evidence.splitlines():
        yield _line("evidence", line)


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _line(what: str, text: str) -> str:
    return f"{what:<10} {text}"
