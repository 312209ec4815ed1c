"""Makes the daemon of a root read its configuration again, and waits for the result."""

from pathlib import Path

from updater.errors import Misconfigured
from updater.host import config
from updater.model.layout import Layout
from updater.service import readiness

PATIENCE = 100.0  # seconds; the daemon reads it between two cycles, and a heartbeat may wait long for meta


def ask(config_file: Path, layout: Layout) -> str:
    """Ask the daemon to reload; returns a sentence for the user.

    Raises Misconfigured if the configuration has an error or the daemon refuses it. An invalid one is found before the
    daemon is asked. Raises TryLater if no daemon runs here, or it does not answer.
    """
    config.load(config_file)
    said = readiness.ask_to_reload(layout.state, PATIENCE)
    if said.word == readiness.REFUSED:
        raise Misconfigured(f"the old configuration stays in force: {said.text}")
    return said.text
