"""Makes the daemon of a root read its configuration again, and says how it went."""

from pathlib import Path

from updater.errors import Misconfigured
from updater.host import config
from updater.model.layout import Layout
from updater.service import readiness

PATIENCE = 100.0  # seconds; it reads between two cycles, and a heartbeat to a meta that is silent takes long


def ask(config_file: Path, layout: Layout) -> str:
    """Returns what to tell the user. Raises Misconfigured for a configuration with an error, of which the daemon then hears
    nothing, and when the daemon refuses it; TryLater when no daemon runs here or it does not answer."""
    config.load(config_file)
    said = readiness.ask_to_reload(layout.state, PATIENCE)
    if said.word == readiness.REFUSED:
        raise Misconfigured(f"the old configuration stays in force: {said.text}")
    return said.text
