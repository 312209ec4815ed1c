"""The command `updater`: connects the parts, and turns errors into one sentence and an exit code."""

import logging
import os
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
from updater.service import hangups, interrupt
from updater.service.command_line import Commands, a_path
from updater.wire.text import counted, visible, visible_error

# Modules that load slowly are imported in the commands that need them, so that `--help` is quick.


class _Cli(Commands):
    """Turns an UpdaterError into one sentence on stderr and the exit code that the help promises."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        if given[:1] != ["run"]:
            hangups.let_through()
        with interrupt.has_a_code(), nullcontext() if given[:1] in (["run"], ["guard"]) else interrupt.always_ends():
            return super().main(given, *more, **named)

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except Misconfigured as e:
            click.echo(visible_error(f"updater: {e}"), err=True)
            context.exit(2)
        except UpdaterError as e:
            click.echo(visible_error(f"updater: {e}"), err=True)
            context.exit(1 if isinstance(e, NotThere) else 3)


_HOST_COMMANDS = (
    host_commands.why,
    host_commands.hold,
    host_commands.unhold,
    host_commands.rollback,
    host_commands.retry,
    host_commands.enrol,
)


@click.group(cls=_Cli, commands=_HOST_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="updater", message="%(prog)s %(version)s")
def main() -> None:
    """Keep the agents of this host at the versions that meta desires.

    \b
    updater run  -c cfg.json     the daemon, in the foreground (./control start puts it in the background)
    updater once -c cfg.json     one cycle now, with an exit code that says how it went
    updater plan -c cfg.json     what a cycle would do, and why; changes nothing
    updater status -c cfg.json   what each agent's `./control status` says
    updater why AGENT            explain an agent's state; also hold, unhold, rollback, retry
    updater enrol                get this host's own token from meta
    updater unpack TARBALL DIR   whether hosts would accept a tarball

    Exit codes: 0 success, 1 an agent is not as desired or not there, 2 bad configuration or usage, 3 no usable answer of meta.

    Shell completion: eval "$(_UPDATER_COMPLETE=bash_source updater)" (or zsh_source, fish_source).
    """


@main.command()
@CONFIG
@ROOT
@click.option(
    "--check", is_flag=True, help="Only check the configuration and the host: exit 0, or 2 and what is wrong."
)
def run(config_file: Path, root: Path | None, check: bool) -> None:
    """Run the daemon: a cycle each interval, until TERM. HUP reads the configuration again.

    The first cycle begins after a random part of the interval, or within 10 s if meta has never answered this host. The
    log says when.
    """
    hangups.ignore()  # until the daemon can handle it
    from updater import local_api
    from updater.host import operator_requests, preflight
    from updater.reconcile.daemon import Daemon
    from updater.self_update import handover

    if check:
        host = a_host(config_file, root)
        preflight.check(host.config, host.layout.root)
        local_api.check(host.config, operator_requests.running_updater(host.layout))
        click.echo(visible(f"{config_file} is valid"))
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
    """Wait for a good heartbeat of the new version after a handover; without one, become the daemon again."""
    from updater.self_update import handover

    host = a_host(config_file, root)
    log_to_stderr(logging.INFO)
    if not handover.guard(host, pid, version, back, seconds):
        handover.take_over(host)


@main.command()
@CONFIG
@ROOT
def once(config_file: Path, root: Path | None) -> None:
    """Run one cycle now.

    Exits with 0 if the host is as desired, 1 if some agent is not, and 3 if meta gave no usable answer.
    """
    from updater.kernel import children
    from updater.reconcile import cycle

    with working_host(config_file, root) as host, interrupt.asks_first(host.stop), children.burying():
        result = cycle.run(host)
    for name, why, _ in result.refused:
        click.echo(visible(f"{name}: refused: {why}"), err=True)
    for turn in result.turns:
        click.echo(f"{turn.agent}: {turn.waits or ('changed' if turn.changed else 'as desired')}")
    sys.exit(0 if result.matches else 1)


@main.command()
@CONFIG
@ROOT
def plan(config_file: Path, root: Path | None) -> None:
    """Show what a cycle would do, and why. Asks meta, but changes nothing on this host.

    This meta does not count the request as a heartbeat. Another one, such as the Go meta, does; then a message says so.
    """
    from updater.reconcile import cycle

    host = a_host(config_file, root)
    log_to_stderr(logging.WARNING)
    beat, plans = cycle.preview(host)
    for name, why, _ in beat.refused:
        click.echo(visible(f"{name}: refused: {why}"))
    for order, todo in zip(beat.orders, plans, strict=True):
        for action in todo.actions:
            click.echo(f"{order.name}: {action}")
        if todo.waits or not todo.actions:
            click.echo(f"{order.name}: {todo.waits or f'as desired ({order.version or order.cmd})'}")
    if not beat.orders and not beat.refused:
        click.echo("meta desires no agents on this host")
    if not beat.look:
        taken = f"{host.config.shown_url} took this for a heartbeat of {host.config.reported_hostname}"
        click.echo(f"{taken}: it does not know requests that only look", err=True)


@main.command()
@CONFIG
@ROOT
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def status(config_file: Path, root: Path | None, as_json: bool) -> None:
    """Show each agent's version and what its `./control status` says now."""
    from updater.cli import explain, tables
    from updater.host.observe import agent_names
    from updater.meta_client import enrolment, parking
    from updater.reconcile import cycle

    host = a_host(config_file, root)
    seen = cycle.look(host, agent_names(host.layout))
    died = {name: words for name in seen if (words := explain.died(host.memories.of(name)))}
    tables.agents([one.real_agent() for one in seen.values()], died, as_json)
    if not as_json:  # on stderr, as programs read the agents' lines too
        click.echo(f"enrolled: {enrolment.state(host)}", err=True)
        click.echo(visible(f"reachable by meta at once: {parking.state(host)}"), err=True)


@main.command()
@click.option(
    "-c",
    "--config",
    "config_file",
    type=a_path(dir_okay=False),
    help="Use the limits of this cfg.json. [default: the default limits]",
)
@click.argument("tarball", type=a_path(dir_okay=False))
@click.argument("directory", type=a_path())
def unpack(config_file: Path | None, tarball: Path, directory: Path) -> None:
    """Unpack TARBALL into the new DIRECTORY by the rules of all hosts.

    This tells before a release whether hosts would accept it: exits with 0, or with 1 and the reason, without DIRECTORY.
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
        click.echo(visible_error(f"updater: {e}"), err=True)
        sys.exit(1)
    if done.skipped:
        click.echo(unpacking.in_words(done.skipped))
    click.echo(f"ok: {counted(done.members, 'member')}, {done.bytes} bytes")


@main.command()
@CONFIG
@ROOT
def reload(config_file: Path, root: Path | None) -> None:
    """Make the daemon of this root read its configuration again.

    Exits with 2 if the configuration has an error; then the old one stays in force. Exits with 3 if no daemon runs or
    answers. The daemon gets SIGHUP, so this works without the local HTTP interface.
    """
    from updater.cli import reloading

    click.echo(reloading.ask(config_file, a_layout(config_file, root)))


@main.command()
@click.option(
    "--root",
    type=a_path(file_okay=False),
    default=Path("/opt/ops-updater"),
    show_default=True,
    help="The directory for the agents, cfg.json and the updater itself.",
)
@click.option("--server", default="", metavar="HOST:PORT", help="The address of meta; required without a cfg.json.")
@click.option("--user", default="root", show_default=True, help="The user that runs the updater, and so all agents.")
@click.option(
    "--destdir",
    type=a_path(file_okay=False),
    default=Path("/"),
    help="Write below this directory instead of /, for a preview or an image.",
)
@click.option("--hardened", is_flag=True, help="Restrict the updater and all agents by a systemd drop-in.")
@click.option("--enable", is_flag=True, help="Let systemd start the updater now and at every boot.")
def install(root: Path, server: str, user: str, destdir: Path, hardened: bool, enable: bool) -> None:
    """Create this host's root and systemd unit from the unpacked package that this command runs from.

    An existing cfg.json and the installed version of the updater stay as they are.
    """
    from updater.self_update import install_package as installation

    if enable and destdir != Path("/"):
        raise click.UsageError("--enable is for the running system: leave it out with --destdir")
    os.umask(0o022)
    package = Path(sys.argv[0]).resolve().parent
    options = installation.InstallOptions(package, root, server, user, destdir.resolve(), hardened)
    for line in installation.install(options).lines():
        click.echo(line)
    if enable:
        sys.stdout.flush()
        installation.enable()
    click.echo("next: systemctl daemon-reload && systemctl enable --now ops-updater")
