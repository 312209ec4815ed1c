"""Why an agent is as it is, in a few lines for a person: what is desired, what is observed, what was tried, what comes next."""

import os
import time
from collections.abc import Iterator

from updater.host import host_name
from updater.host.context import Host
from updater.host.last_reply import REWRITE, LastReply
from updater.kernel import agent_environment, processes, witness
from updater.meta_client import enrolment
from updater.model.actions import Plan
from updater.model.memory import Memory
from updater.model.observed import Observed
from updater.reconcile.plan import plan
from updater.wire.heartbeat import Desired, Outcome


def why(host: Host, observed: Observed, last: LastReply) -> Iterator[str]:
    """Lines about one agent; changes nothing and asks nobody but the agent itself."""
    now, memory = host.now(), host.memories.of(observed.name)
    order = next((host.config.completed(o) for o in last.orders if o.name == observed.name), None)
    yield _line("desired", _desired(order, last, now))
    if doubt := host_name.trouble(host):
        yield _line("name", doubt)
    yield _line("observed", f"{observed.current or 'no version'} {observed.status.text}".strip())
    yield _line("installed", ", ".join(sorted(observed.installs)) or "nothing")
    if observed.held:
        yield _line("held", observed.held)
    if order:
        yield from _next(host, observed, order, memory)
    if memory.watching(now) and memory.trial:
        yield _line("watched", f"{memory.trial.version}, for another {memory.trial.until - now:.0f} s")
    yield from _remaining(memory)
    yield from _environment(host, observed, memory)
    if back := way_back(observed, order, memory):
        yield _line("way back", back)
    if memory.last:
        yield from _outcome(memory.last)
    yield _line("enrolled", enrolment.state(host))


def way_back(observed: Observed, order: Desired | None, memory: Memory) -> str:
    """The version that `updater rollback` takes the agent to, "" where it takes it nowhere."""
    return memory.way_back(observed.current, observed.installs) if order and observed.current == order.version else ""


def _remaining(memory: Memory) -> Iterator[str]:
    """What lives of versions that were stopped, and what else keeps their directories."""
    for version, left in memory.left.items():
        if words := witness.in_words(version, processes.alive(left)):
            yield _line("left", words)
    for version, there in memory.there.items():
        if words := witness.in_words(version, processes.alive(there), by="in"):
            yield _line("there", f"{words}, which is none of the agent's own: its directory stays")


def _environment(host: Host, observed: Observed, memory: Memory) -> Iterator[str]:
    """What running processes were started with that agents are not given any more."""
    if not observed.current:
        return
    install, table = host.layout.agent(observed.name).install(observed.current), processes.Table()
    given = agent_environment.set_by(host.layout.root / agent_environment.FILE)
    for one in sorted(witness.recognise(table, install, memory.known(observed.current), host.boot)):
        if more := agent_environment.more_than_given(table.environment(one), os.environ, given):
            words = f"{one.pid} {one.name} has {', '.join(more)} in its environment, which agents are not given now"
            yield _line("inherited", f"{words}: gone with its next start, unless its own script sets it")


def _desired(order: Desired | None, last: LastReply, now: float) -> str:
    if not last.at:
        return "unknown: meta has not answered yet"
    age = _age(max(now - last.at, 0))
    return f"{order.cmd} {order.version}, {age}" if order else f"nothing, {age}"


def _age(seconds: float) -> str:
    """Of orders that were written so long ago: an answer that says the same is not written before REWRITE is over."""
    silent = f"; meta has not answered in the last {seconds - REWRITE:.0f} s" if seconds > REWRITE else ""
    return f"as of {seconds:.0f} s ago or later{silent}"


def next_steps(host: Host, observed: Observed, order: Desired, memory: Memory) -> Plan:
    """What the next cycle does with this order, as far as it is known now."""
    return plan(observed, order, memory, host.moment(observed.at), host.config.keep_versions)


def _next(host: Host, observed: Observed, order: Desired, memory: Memory) -> Iterator[str]:
    todo = next_steps(host, observed, order, memory)
    for action in todo.actions:
        yield _line("next", str(action))
    if todo.waits:
        yield _line("waits", todo.waits)
    elif not todo.actions:
        yield _line("waits", "for nothing, it is as desired")


def _outcome(last: Outcome) -> Iterator[str]:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.at))
    change = f"{last.from_} -> {last.to}" if last.from_ not in ("", last.to) else last.to
    yield _line("last", f"{at} {last.result} at {last.step}: {change}: {last.reason}")
    for line in last.evidence.splitlines():
        yield _line("evidence", line)


def _line(what: str, text: str) -> str:
    return f"{what:<10} {text}"
