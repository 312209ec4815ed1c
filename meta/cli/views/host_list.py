"""What `meta hosts` shows: a line for each host, and a true sentence where none fits."""

import shlex
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from meta.api.schemas.types import Hosts
from meta.cli.client import Client, at
from meta.cli.known import require_agent, require_label
from meta.cli.views import show
from meta.queries.representations import NO_REASON, AgentView, HostView
from updater.wire.heartbeat import ROLLED_BACK
from updater.wire.names import START

NARROW = 120  # columns of a terminal, below which address and labels are left out: agents are what is looked for
_ABOUT_CHANGES = ("drift", "failed")  # options that say how a host stands to what it shall be


def print_hosts(hosts: Sequence[HostView], nothing: str) -> None:
    """nothing: the sentence for none."""
    heads = ["host", "state", "last seen", "address", "agents", "failed", "labels"]
    rows = [_row(host) for host in hosts]
    left_out = set()
    if show.is_terminal():  # on a pipe all columns are always there, to be counted
        left_out = {
            head for i, head in enumerate(heads) if head in ("failed", "labels") and not any(r[i] for r in rows)
        }
        left_out |= {"address", "labels"} if shutil.get_terminal_size().columns < NARROW else set()
    used = [i for i, head in enumerate(heads) if head not in left_out]
    short = ("agents", "failed", "labels")
    show.table([heads[i] for i in used], [[row[i] for i in used] for row in rows], nothing, cut=short)


def _row(host: HostView) -> list[show.Cell | str]:
    agents = sorted(host.agents, key=lambda one: not one.drift)  # what is cut off on a narrow terminal is as desired
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
    """The version that it shall have, or `stop`."""
    return agent.desired if agent.desired_cmd != "stop" else "stop"


def is_on_trial(agent: AgentView) -> bool:
    """Whether what it shall have is in its watch: of what no order asks for any more nobody waits for the end."""
    return bool(agent.trial and agent.desired_cmd == START and not agent.drift and not agent.failed)


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
    """`falcon-agent 1.0.2 rolled back: died 3 s after its start`, also where another outcome has been told since."""
    told = agent.outcome
    if agent.rejected == agent.desired and (not told or (told.to, told.result) != (agent.rejected, ROLLED_BACK)):
        return f"{agent.name} {agent.rejected} {ROLLED_BACK}: {NO_REASON}"
    assert told  # noqa: S101 (what else has failed has told so)
    return f"{agent.name} {told.to} {told.result}: {told.reason or 'no reason given'}"


def nothing(client: Client, wanted: Mapping[str, Any], hint: str) -> str:
    """Why no host fits. wanted: the options of `meta hosts` by name; hint: meta's, which name was meant. Raises
    NotThere for an agent or a label that is not there at all."""
    if wanted["agent"]:
        require_agent(client, wanted["agent"])
    if wanted["label"]:
        require_label(client, wanted["label"])
    if wanted["name"] and not set("*?[").intersection(wanted["name"]):
        client.get(at("hosts", wanted["name"]), HostView)  # or it says which name was meant
    if hint:
        return hint
    if wanted["doubled"]:
        return "no name is used by two machines, as far as their updaters tell"
    others = {key: value for key, value in wanted.items() if value and key not in _ABOUT_CHANGES}
    shown = " ".join(f"--{key} {shlex.quote(str(value))}" for key, value in others.items())
    about = wanted["failed"] or wanted["drift"] is not None
    if not about or not any(page.items for page in client.pages("/hosts", Hosts, 1, **others)):
        return f"no host fits {shown}" if shown else "no host has reported yet"
    if wanted["failed"]:
        return f"no change has failed on the hosts that fit {shown}" if shown else "no change has failed on any host"
    if wanted["drift"]:
        return f"every host that fits {shown} is as desired" if shown else "every host is as desired"
    return f"no host that fits {shown} is as desired" if shown else "no host is as desired"
