"""The command `updater`: wires the parts together, and turns errors into one sentence and an exit code."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from updater import __version__
from updater.errors import Misconfigured, UpdaterError

if TYPE_CHECKING:
    from updater.host import Host

# Imports of what is slow to load stand in the commands that need it: `--help` must not wait for it.

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


class _Cli(click.Group):
    """Turns our errors into one sentence on stderr and the exit code that the help promises."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except Misconfigured as e:
            click.echo(f"updater: {e}", err=True)
            context.exit(2)
        except UpdaterError as e:
            click.echo(f"updater: {e}", err=True)
            context.exit(3)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="updater")
def main() -> None:
    """Keep the agents of this host at the versions that meta desires.

    \b
    updater run  -c cfg.json     the daemon, in the foreground (./control start puts it in the background)
    updater once -c cfg.json     one cycle now, with an exit code that says how it went
    updater plan -c cfg.json     what a cycle would do, and why; changes nothing
    updater status -c cfg.json   what each agent's own `./control status` says

    Exit codes: 0 well, 1 an agent is not as desired, 2 bad configuration or usage, 3 no usable answer from meta.

    Shell completion: eval "$(_UPDATER_COMPLETE=bash_source updater)" (or zsh_source, fish_source).
    """


@main.command()
@CONFIG
@ROOT
def run(config_file: Path, root: Path | None) -> None:
    """Run as the daemon: a random first sleep, then a cycle each interval, until TERM."""
    from updater import local_api
    from updater.daemon import Daemon

    with _working_host(config_file, root) as host:
        daemon = Daemon(host, config_file)
        server = local_api.serve(daemon) if host.config.http.enabled else None
        try:
            with daemon.signals():
                daemon.run()
        finally:
            if server:
                server.shutdown()
                server.server_close()


@main.command()
@CONFIG
@ROOT
def once(config_file: Path, root: Path | None) -> None:
    """Run one cycle now.

    Exits with 0 when the host is as desired, 1 when some agent could not be brought there, 3 when meta gave no usable answer.
    """
    from updater import cycle

    with _working_host(config_file, root) as host:
        result = cycle.run(host)
    for name, why in result.refused:
        click.echo(f"{name}: refused: {why}", err=True)
    for turn in result.turns:
        click.echo(f"{turn.agent}: {turn.waits or ('changed' if turn.changed else 'as desired')}")
    sys.exit(0 if result.matches else 1)


@main.command()
@CONFIG
@ROOT
def plan(config_file: Path, root: Path | None) -> None:
    """Show what a cycle would do, and why. Asks meta (which takes it for a heartbeat) and changes nothing here."""
    from updater import cycle

    host = _host(config_file, root)
    _log_to_stderr(logging.WARNING)
    beat, plans = cycle.preview(host)
    for name, why in beat.refused:
        click.echo(f"{name}: refused: {why}")
    for order, todo in zip(beat.orders, plans, strict=True):
        for action in todo.actions:
            click.echo(f"{order.name}: {action}")
        if todo.waits or not todo.actions:
            click.echo(f"{order.name}: {todo.waits or f'as desired ({order.version or order.cmd})'}")
    if not beat.orders and not beat.refused:
        click.echo("meta desires nothing of this host")


@main.command()
@CONFIG
@ROOT
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def status(config_file: Path, root: Path | None, as_json: bool) -> None:
    """Show each agent's version and what its own `./control status` says now."""
    from updater import cycle, show
    from updater.observe import agent_names

    host = _host(config_file, root)
    seen = cycle.look(host, agent_names(host.layout))
    show.agents([one.real_agent() for one in seen.values()], as_json)


@main.command()
@CONFIG
def reload(config_file: Path) -> None:
    """Make the running daemon read its cfg.json again."""
    from updater import config, reloading

    click.echo(reloading.ask(config.load(config_file)))


@main.command()
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/opt/ops-updater"),
    show_default=True,
    help="Where the agents' directories, cfg.json and the updater itself shall be.",
)
@click.option("--server", default="", metavar="HOST:PORT", help="Where meta is; needed where there is no cfg.json yet.")
@click.option("--user", default="root", show_default=True, help="Who runs the updater, and so all agents.")
@click.option(
    "--destdir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    help="Write below this directory instead of /, to have a look or to make an image.",
)
@click.option("--enable", is_flag=True, help="Have systemd start it now and with every boot.")
def install(root: Path, server: str, user: str, destdir: Path, enable: bool) -> None:
    """Make this host's root and its systemd unit, from the unpacked package that this runs from.

    Nothing that is there already is lost: neither cfg.json nor the version that the updater is at.
    """
    from updater import install as installation

    if enable and destdir != Path("/"):
        raise click.UsageError("--enable is for the running system, --destdir is not")
    os.umask(0o022)
    package = Path(sys.argv[0]).resolve().parent
    for line in installation.install(installation.Wish(package, root, server, user, destdir.resolve())).lines():
        click.echo(line)
    if enable:
        sys.stdout.flush()
        installation.enable()
    click.echo("next: systemctl daemon-reload && systemctl enable --now ops-updater")


def _host(config_file: Path, root: Path | None) -> "Host":
    from updater import config
    from updater.host import Host
    from updater.http import Http
    from updater.layout import Layout

    settings = config.load(config_file)
    base = (root or config_file.resolve().parent).resolve()
    if not base.is_dir():
        raise Misconfigured(f"the root {base} is not a directory: make it, or use another --root")
    return Host(Layout(base), settings, Http(settings.ca_file, settings.credentials))


@contextlib.contextmanager
def _working_host(config_file: Path, root: Path | None) -> Iterator["Host"]:
    """A host that may be changed: checked, and locked against a second updater."""
    from updater import files, preflight

    host = _host(config_file, root)
    _log_to_stderr(logging.DEBUG if host.config.debug else logging.INFO)
    preflight.check(host.config, host.layout.root)
    with files.only_one(host.layout.lock):
        yield host


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("updater").setLevel(level)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # what it would say, our errors say in a line


if __name__ == "__main__":
    main()
