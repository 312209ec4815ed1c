"""The output of `meta hosts`: a line for each host, or a sentence if there is none."""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from meta.api.schemas.types import Hosts
from meta.cli.client import Client, at
from meta.cli.known import require_agent, require_label
from meta.cli.views import show
from meta.queries.representations import AgentView, HostView, untold
from updater.wire.heartbeat import ROLLED_BACK
from updater.wire.names import START
from updater.wire.text import in_plain_sight, quoted

NARROW = 120  # columns of a terminal; on narrower ones address and labels are left out
_ABOUT_CHANGES = ("drift", "failed")  # options that compare a host with its desired state


def print_hosts(hosts: Sequence[HostView], nothing: str) -> None:
    """Print hosts as a table. nothing: the sentence to print if there are none."""
    heads = ["host", "state", "last seen", "address", "agents", "failed", "labels"]
    rows = [_row(host) for host in hosts]
    left_out = set()
    if show.is_terminal():  # a pipe always gets all columns, so that scripts can count them
        left_out = {
            head for i, head in enumerate(heads) if head in ("failed", "labels") and not any(r[i] for r in rows)
        }
        left_out |= {"address", "labels"} if shutil.get_terminal_size().columns < NARROW else set()
    used = [i for i, head in enumerate(heads) if head not in left_out]
    short = ("agents", "failed", "labels")
    show.table([heads[i] for i in used], [[row[i] for i in used] for row in rows], nothing, cut=short)


def _row(host: HostView) -> list[show.Cell | str]:
    agents = sorted(
        host.agents, key=lambda one: not one.drift
    )  # agents that drift come first, since a narrow terminal cuts the end
    reasons = [_why(agent) for agent in agents if agent.failed]
    return [
        show.Cell(host.name, "bold"),
        show.Cell(f"{host.state}, doubled", "red") if host.doubled else show.word(host.state),
        show.when(host.last_seen, short=True),
        host.address,
        ", ".join(map(_in_short, agents)),
        show.Cell(", ".join(reasons), "red") if reasons else "",
        show.labels(host.labels),
    ]


def desired(agent: AgentView) -> str:
    """The desired version, or `stop`."""
    return agent.desired if agent.desired_cmd != "stop" else "stop"


def is_on_trial(agent: AgentView) -> bool:
    """Whether the desired version is on trial; a trial of a version that is no longer desired does not count."""
    is_its = agent.desired_cmd == START and not agent.drift and not agent.waits
    return bool(agent.trial and is_its and not agent.failed)


def _in_short(agent: AgentView) -> str:
    """`falcon-agent 1.0.1`, `falcon-agent 1.0.1 stoped -> 1.0.2`."""
    words = [agent.name, agent.version or "(not there)"]
    if agent.status and agent.status != "started":
        words.append(agent.status)
    if agent.drift:
        words.append(f"-> {desired(agent)}")
    if is_on_trial(agent):
        words.append("(on trial)")
    if agent.held:
        words.append("(held)")
    return " ".join(words)


def _why(agent: AgentView) -> str:
    """`falcon-agent 1.0.2 rolled back: died 3 s after its start`; also if a later outcome was reported."""
    told = agent.outcome
    if agent.rejected == agent.desired and (not told or (told.to, told.result) != (agent.rejected, ROLLED_BACK)):
        return f"{agent.name} {agent.rejected} {ROLLED_BACK}: {untold(agent.waits)}"
    assert told  # noqa: S101 (any other failure has an outcome)
    return f"{agent.name} {told.to} {told.result}: {told.reason or 'no reason given'}"


def _as_typed(text: str) -> str:
    """As in a shell; quoted, if it has characters that cannot be seen there."""
    return shlex.quote(text) if in_plain_sight(text) else quoted(text)


def nothing(client: Client, wanted: Mapping[str, Any], hint: str) -> str:
    """A sentence that says why no host matches. Raises NotThere for an unknown agent or label.

    wanted: the options of `meta hosts` by name; hint: meta's suggestion of another name.
    """
    if wanted["agent"]:
        require_agent(client, wanted["agent"])
    if wanted["label"]:
        require_label(client, wanted["label"])
    if wanted["name"] and not set("*?[").intersection(wanted["name"]):
        client.get(at("hosts", wanted["name"]), HostView)  # raises NotThere with a similar name
    if hint:
        return hint
    if wanted["doubled"]:
        return "no two machines report under one name, as far as their updaters say"
    others = {key: value for key, value in wanted.items() if value and key not in _ABOUT_CHANGES}
    shown = " ".join(f"--{key} {_as_typed(str(value))}" for key, value in others.items())
    about = wanted["failed"] or wanted["drift"] is not None
    if not about or not any(page.items for page in client.pages("/hosts", Hosts, 1, **others)):
        return f"no host matches {shown}" if shown else "no host has reported yet"
    if wanted["failed"]:
        return f"no change has failed on the hosts that match {shown}" if shown else "no change has failed on any host"
    if wanted["drift"]:
        return f"every host that matches {shown} is as desired" if shown else "every host is as desired"
    return f"no host that matches {shown} is as desired" if shown else "no host is as desired"
