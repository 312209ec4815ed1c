"""The command `updater`: wires the parts together, and turns errors into one sentence and an exit code."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from updater import __version__
from updater.cli import host_commands
from updater.cli.options import CONFIG, ROOT, a_host, a_layout, log_to_stderr, working_host
from updater.errors import Misconfigured, NotThere, Refused, UpdaterError
from updater.service import interrupt

# Imports of what is slow to load stand in the commands that need it: `--help` must not wait for it.


class _Cli(click.Group):
    """Turns our errors into one sentence on stderr and the exit code that the help promises."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        with interrupt.has_a_code(), nullcontext() if given[:1] in (["run"], ["guard"]) else interrupt.always_ends():
            return super().main(given, *more, **named)

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except Misconfigured as e:
            click.echo(f"updater: {e}", err=True)
            context.exit(2)
        except UpdaterError as e:
            click.echo(f"updater: {e}", err=True)
            context.exit(1 if isinstance(e, NotThere) else 3)


_OF_A_HAND = (
    host_commands.why,
    host_commands.hold,
    host_commands.unhold,
    host_commands.rollback,
    host_commands.retry,
    host_commands.enrol,
)


@click.group(cls=_Cli, commands=_OF_A_HAND, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="updater", message="%(prog)s %(version)s")
def main() -> None:
    """Keep the agents of this host at the versions that meta desires.

    \b
    updater run  -c cfg.json     the daemon, in the foreground (./control start puts it in the background)
    updater once -c cfg.json     one cycle now, with an exit code that says how it went
    updater plan -c cfg.json     what a cycle would do, and why; changes nothing
    updater status -c cfg.json   what each agent's own `./control status` says
    updater why AGENT            why an agent is as it is; also hold, unhold, rollback, retry
    updater enrol                get this host a token of its own from meta
    updater unpack TARBALL DIR   whether hosts would accept a tarball

    Exit codes: 0 well, 1 an agent is not as desired or not there, 2 bad configuration or usage, 3 no usable answer from meta.

    Shell completion: eval "$(_UPDATER_COMPLETE=bash_source updater)" (or zsh_source, fish_source).
    """


@main.command()
@CONFIG
@ROOT
@click.option("--check", is_flag=True, help="Only say whether it could run so: exit 0, or 2 and what is wrong.")
def run(config_file: Path, root: Path | None, check: bool) -> None:
    """Run as the daemon: a cycle each interval, until TERM. HUP reads the configuration again.

    The first one comes after a random part of the interval; within 10 s where meta has never answered this host. The log says
    when.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the daemon can handle it
    from updater import local_api
    from updater.host import operator_requests, preflight
    from updater.reconcile.daemon import Daemon
    from updater.self_update import handover

    if check:
        host = a_host(config_file, root)
        preflight.check(host.config, host.layout.root)
        local_api.check(host.config, operator_requests.running_updater(host.layout))
        click.echo(f"{config_file} is good")
        return
    with working_host(config_file, root) as host:
        daemon = Daemon(host, config_file)
        listening = local_api.Listening(daemon)
        daemon.listens = listening.follow
        listening.follow(host.config)
        try:
            with daemon.signals():
                daemon.run()
        finally:
            listening.close()
    if host.successor and not host.stopping:
        handover.become(host)


@main.command(hidden=True)
@CONFIG
@ROOT
@click.argument("pid", type=int)
@click.argument("version")
@click.argument("back")
@click.argument("seconds", type=float)
def guard(config_file: Path, root: Path | None, pid: int, version: str, back: str, seconds: float) -> None:
    """Wait for the good heartbeat of a version that was handed over to, and take over again when there is none."""
    from updater.self_update import handover

    host = a_host(config_file, root)
    log_to_stderr(logging.INFO)
    if not handover.guard(host, pid, version, back, seconds):
        handover.take_over(sys.argv)


@main.command()
@CONFIG
@ROOT
def once(config_file: Path, root: Path | None) -> None:
    """Run one cycle now.

    Exits with 0 when the host is as desired, 1 when some agent could not be brought there, 3 when meta gave no usable answer.
    """
    from updater.kernel import children
    from updater.reconcile import cycle

    with working_host(config_file, root) as host, interrupt.asks_first(host.stop), children.burying():
        result = cycle.run(host)
    for name, why, _ in result.refused:
        click.echo(f"{name}: refused: {why}", err=True)
    for turn in result.turns:
        click.echo(f"{turn.agent}: {turn.waits or ('changed' if turn.changed else 'as desired')}")
    sys.exit(0 if result.matches else 1)


@main.command()
@CONFIG
@ROOT
def plan(config_file: Path, root: Path | None) -> None:
    """Show what a cycle would do, and why. Asks meta, and changes nothing here.

    meta only looks the answer up and forgets the question; another meta, as the Go one, takes it for a heartbeat, and then this
    says so.
    """
    from updater.reconcile import cycle

    host = a_host(config_file, root)
    log_to_stderr(logging.WARNING)
    beat, plans = cycle.preview(host)
    for name, why, _ in beat.refused:
        click.echo(f"{name}: refused: {why}")
    for order, todo in zip(beat.orders, plans, strict=True):
        for action in todo.actions:
            click.echo(f"{order.name}: {action}")
        if todo.waits or not todo.actions:
            click.echo(f"{order.name}: {todo.waits or f'as desired ({order.version or order.cmd})'}")
    if not beat.orders and not beat.refused:
        click.echo("meta desires nothing of this host")
    if not beat.look:
        taken = f"{host.config.shown_url} took this for a heartbeat of {host.config.reported_hostname}"
        click.echo(f"{taken}: it does not know reports that only look", err=True)


@main.command()
@CONFIG
@ROOT
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def status(config_file: Path, root: Path | None, as_json: bool) -> None:
    """Show each agent's version and what its own `./control status` says now."""
    from updater.cli import tables
    from updater.host.observe import agent_names
    from updater.meta_client import enrolment
    from updater.reconcile import cycle

    host = a_host(config_file, root)
    seen = cycle.look(host, agent_names(host.layout))
    tables.agents([one.real_agent() for one in seen.values()], as_json)
    if not as_json:  # not among the agents' lines, which programs read too
        click.echo(f"enrolled: {enrolment.state(host)}", err=True)


@main.command()
@click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Take the limits from this cfg.json. [default: those of a cfg.json that names none]",
)
@click.argument("tarball", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("directory", type=click.Path(path_type=Path))
def unpack(config_file: Path | None, tarball: Path, directory: Path) -> None:
    """Unpack TARBALL into the new DIRECTORY by the rules that every host keeps to.

    To know before publishing what hosts would say: exits with 0, or with 1 and the reason, and then DIRECTORY is not made.
    """
    from updater import durable_files
    from updater.artifact import extract as unpacking
    from updater.artifact import runnable
    from updater.host import config

    limits = config.load(config_file).limits if config_file else unpacking.USUAL
    try:
        with unpacking.opened(tarball) as file:
            done = unpacking.unpack(file, directory, limits)
        if problem := runnable.problem(directory / "control", os.environ.get("PATH", os.defpath)):
            durable_files.remove_tree(directory)
            raise Refused(f"its control cannot run: {problem}")
    except UpdaterError as e:
        click.echo(f"updater: {e}", err=True)
        sys.exit(1)
    if done.skipped:
        click.echo(unpacking.in_words(done.skipped))
    click.echo(f"well: {done.members} members, {done.bytes} bytes")


@main.command()
@CONFIG
@ROOT
def reload(config_file: Path, root: Path | None) -> None:
    """Make the daemon of this root read its configuration again. One with an error changes nothing: exit 2, and what is wrong.

    The daemon is asked by SIGHUP and says how it went, so that it needs no http; exit 3 when it does not run or answer.
    """
    from updater.cli import reloading

    click.echo(reloading.ask(config_file, a_layout(config_file, root)))


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
@click.option("--hardened", is_flag=True, help="Take from the updater and all agents what most need not, by a drop-in.")
@click.option("--enable", is_flag=True, help="Have systemd start it now and with every boot.")
def install(root: Path, server: str, user: str, destdir: Path, hardened: bool, enable: bool) -> None:
    """Make this host's root and its systemd unit, from the unpacked package that this runs from.

    Nothing that is there already is lost: neither cfg.json nor the version that the updater is at.
    """
    from updater.self_update import install_package as installation

    if enable and destdir != Path("/"):
        raise click.UsageError("--enable is for the running system, --destdir is not")
    os.umask(0o022)
    package = Path(sys.argv[0]).resolve().parent
    wish = installation.Wish(package, root, server, user, destdir.resolve(), hardened)
    for line in installation.install(wish).lines():
        click.echo(line)
    if enable:
        sys.stdout.flush()
        installation.enable()
    click.echo("next: systemctl daemon-reload && systemctl enable --now ops-updater")
