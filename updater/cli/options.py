"""Shared by the updater's commands: the options that name the configuration and the root, and the Host made of them."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from updater import places
from updater.errors import Misconfigured, TryLater
from updater.service.command_line import a_path
from updater.wire.text import one_line

if TYPE_CHECKING:
    from updater.host.context import Host
    from updater.model.layout import Layout

CONFIG = click.option(
    "-c",
    "--config",
    "config_file",
    type=a_path(dir_okay=False),
    default=Path("cfg.json"),
    show_default=True,
    help="The configuration file; cfg.example.json is an example.",
)
ROOT = click.option(
    "--root",
    type=a_path(file_okay=False),
    help="The directory of the agents' directories. [default: the directory of the configuration]",
)


def a_layout(config_file: Path, root: Path | None) -> "Layout":
    """The paths of the root. Raises Misconfigured if it is not a directory."""
    from updater.model.layout import Layout

    base = (root or config_file.resolve().parent).resolve()
    if not places.is_directory(base):
        raise Misconfigured(f"the root {base} is not a directory: make it, or use another --root")
    return Layout(base)


def a_host(config_file: Path, root: Path | None) -> "Host":
    """The host as the options describe it, for reading only. Raises Misconfigured."""
    from updater.host import config, preflight
    from updater.host.context import Host, connections
    from updater.self_update import handover

    settings, layout = config.load(config_file), a_layout(config_file, root)
    preflight.check_processes()
    own_version = handover.running_version(layout, Path(sys.argv[0]))
    options = "-c", str(config_file.absolute()), "--root", str(layout.root)
    return Host(layout, settings, connections(settings, layout), own_version=own_version, options=options)


@contextlib.contextmanager
def working_host(config_file: Path, root: Path | None) -> Iterator["Host"]:
    """The host for changing it: checked, and locked against a second updater. Raises Misconfigured, TryLater."""
    from updater.host import preflight, start_output
    from updater.host.observe import agent_names
    from updater.kernel import agent_environment, root_lock

    host = a_host(config_file, root)
    log_to_stderr(logging.DEBUG if host.config.debug else logging.INFO)
    preflight.check(host.config, host.layout.root)
    agent_environment.usual_signals()
    with root_lock.only_one(host.layout.lock):
        agents = [host.layout.agent(name).path for name in agent_names(host.layout)]
        for directory in (*host.layout.kept_directories, *agents):
            _settle(directory)
        with start_output.trimmed(host):
            yield host


def _settle(directory: Path) -> None:
    """Clean a directory up. If what is in it of one agent cannot be, that is logged, and the other agents go on."""
    from updater import durable_files

    try:
        durable_files.settle(directory)
    except TryLater as e:
        logging.getLogger("updater").error("%s", e)


MAX_LINE = 4000  # characters of an event


class _OneLine(logging.Formatter):
    """One line for each event, with every character shown; only a traceback has more."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record), MAX_LINE)


def log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("updater").setLevel(level)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # its warnings repeat our own errors
