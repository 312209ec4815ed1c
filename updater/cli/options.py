"""What the updater's commands share: the options that say which host, and the host that they say."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from updater import places
from updater.errors import Misconfigured, TryLater

if TYPE_CHECKING:
    from updater.host.context import Host
    from updater.model.layout import Layout

CONFIG = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("cfg.json"),
    show_default=True,
    help="The configuration; cfg.example.json shows one.",
)
ROOT = click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the agents' directories are. [default: the directory of the configuration]",
)


def a_layout(config_file: Path, root: Path | None) -> "Layout":
    from updater.model.layout import Layout

    base = (root or config_file.resolve().parent).resolve()
    if not places.is_directory(base):
        raise Misconfigured(f"the root {base} is not a directory: make it, or use another --root")
    return Layout(base)


def a_host(config_file: Path, root: Path | None) -> "Host":
    from updater.host import config
    from updater.host.context import Host, connections
    from updater.self_update import handover

    settings, layout = config.load(config_file), a_layout(config_file, root)
    own_version = handover.running_version(layout, Path(sys.argv[0]))
    return Host(layout, settings, connections(settings, layout), own_version=own_version)


@contextlib.contextmanager
def working_host(config_file: Path, root: Path | None) -> Iterator["Host"]:
    """A host that may be changed: checked, and locked against a second updater."""
    from updater import durable_files
    from updater.host import preflight, start_output
    from updater.host.observe import agent_names
    from updater.kernel import agent_environment

    host = a_host(config_file, root)
    log_to_stderr(logging.DEBUG if host.config.debug else logging.INFO)
    preflight.check(host.config, host.layout.root)
    agent_environment.usual_signals()
    with durable_files.only_one(host.layout.lock):
        for directory in host.layout.kept_directories:
            durable_files.settle(directory)
        for name in agent_names(host.layout):
            _settle(host.layout.agent(name).path)
        with start_output.trimmed(host):
            yield host


def _settle(agent: Path) -> None:
    """One agent's directory, which may not answer now: the others are served all the same, and each look says it again."""
    from updater import durable_files

    try:
        durable_files.settle(agent)
    except TryLater as e:
        logging.getLogger("updater").error("%s", e)


def log_to_stderr(level: int) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("updater").setLevel(level)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # what it would say, our errors say in a line
