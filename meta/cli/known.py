"""Checks names of agents and labels: an unknown one gives an error with the nearest name, never an empty list."""

from meta.api.schemas.types import Counts, Labels
from meta.cli.client import Client
from meta.errors import NotThere
from meta.suggestions import did_you_mean
from updater.wire.text import quoted


def agents(client: Client) -> list[str]:
    """The sorted names of agents that have a record or that a host reports."""
    records = client.get("/records", dict[str, list[dict[str, object]]])["agents"]
    return sorted({*(str(one["name"]) for one in records), *(one.agent for one in client.get("/counts", Counts).items)})


def require_agent(client: Client, agent: str) -> None:
    """Raises NotThere for an agent that has no record and that no host reports."""
    known = agents(client)
    if agent not in known:
        raise NotThere(f"there is no agent {quoted(agent)}{did_you_mean(agent, known)}")


def require_label(client: Client, label: str) -> None:
    """Raises NotThere for a label that no host has. label: `env=staging` or `env`."""
    key, equals, value = label.partition("=")
    known = {one.key: one for one in client.get("/labels", Labels).items}
    if key not in known:
        raise NotThere(f"no host has a label {quoted(key)}{did_you_mean(key, known) or _among(list(known))}")
    found = known[key]
    if equals and not found.more and value not in found.values:
        raise NotThere(f"no host has the label {quoted(label)}{_among([f'{key}={v}' for v in found.values])}")


def _among(names: list[str]) -> str:
    return f"; there are {', '.join(names[:10])}" if names else "; there are none: meta label sets them"
