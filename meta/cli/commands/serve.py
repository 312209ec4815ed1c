"""`meta serve`, `check` and `reload`: the service itself, and its records file if it has one."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meta.access.roles import ROLES
from meta.cli import options
from meta.errors import MetaError, Misconfigured, TryLater, Unconfirmed
from updater.service.command_line import a_path
from updater.wire.text import counted, visible

if TYPE_CHECKING:
    from meta.cli.client import Client
    from meta.records.model import Record
    from updater.service.readiness import Announcer

RELOADS_WITHIN = 60.0  # seconds
_confirmed = click.option(
    "-y", "--yes", is_flag=True, help="Also if it removes more than half of the agents, or of an agent's overrides."
)


@click.command(short_help="Answer the hosts' heartbeats.")
@options.variable(
    "--config",
    "CONFIG",
    "-c",
    metavar="FILE",
    type=a_path(),
    help="All settings, as meta.example.yaml shows them; options override it.",
)
@options.records
@options.variable(
    "--listen",
    "LISTEN",
    metavar="HOST:PORT",
    show_default="127.0.0.1:2000",
    help="Where to listen; :PORT is every interface, port 0 any free one.",
)
@options.database
@options.variable(
    "--tarballs",
    "TARBALLS",
    metavar="DIR",
    type=a_path(),
    show_default="none",
    help="Serve the files of this directory under /tarball/, and publish into it.",
)
@options.variable(
    "--anonymous-hosts/--no-anonymous-hosts",
    "ANONYMOUS_HOSTS",
    default=None,
    show_default="those on this machine",
    help="Whether hosts may report without a token.",
)
@options.log_level
@options.log_format
@options.long_running
def serve(config: Path | None, check: bool, announcing: Callable[[], "Announcer"], **given: Any) -> None:
    """Answer the hosts' heartbeats until SIGTERM or Ctrl-C; SIGHUP reloads the records file.

    The records are in the database, and commands like `meta set` and `meta apply` change them. With --records they are in a
    file instead, which is read at the start and by `meta reload`. meta listens beyond this machine only after an admin was
    created (meta token --help).

    \b
    Examples:
      meta serve --tarballs /srv/tarballs
      meta serve --config /etc/meta/meta.yaml
      meta serve --records records.yaml --listen :2000
      META_RECORDS=cfg.json META_DATABASE=sqlite:////var/lib/meta/meta.db meta serve
    """
    from meta import logs
    from meta import server as server
    from meta import settings as configuration

    settings = configuration.gathered(config, given)
    logs.configure(settings.log_level, settings.log_format)
    logs.warn(settings.warnings)
    if check:
        server.check(settings, announcing().running())
        click.echo(visible(f"{config or 'the configuration'}: ok"))
    else:
        server.serve(settings, announcing())


@click.command(short_help="Show every error in a records file.")
@click.argument("file", type=a_path())
@_confirmed
@options.connection
@click.pass_context
def check(
    context: click.Context, /, file: Path, yes: bool, url: str, token_file: Path | None, ca_file: Path | None
) -> None:
    """Check a records FILE: exit 0 if it is valid, else 2 with the path and line of every error. If a meta answers, it also
    shows the difference to the records in force, and how many hosts that affects. A FILE named meta.env is checked for unknown
    variables META_..., and for lines that set no variable.

    \b
    Examples:
      meta check records.yaml && meta apply records.yaml
      meta check records.yaml && meta reload
      meta check meta.env
    """
    from meta.cli.steps import record_files

    if file.suffix == ".env":
        _check_variables(file, context.find_root().command)
        return
    read = record_files.read(file)
    record_files.require_room(file, read.records)
    is_asked_for = context.get_parameter_source("url") is not click.core.ParameterSource.DEFAULT
    removals = _compare(lambda: options.connect(url, token_file, ca_file), read.records, is_asked_for)
    if removals and not yes:
        raise Misconfigured(f"{file}: {Unconfirmed(removals, 'review, then rerun with --yes')}")
    click.echo(visible(f"{file}: {counted(len(read.records), 'agent')}, no errors"))


def _compare(connect: "Callable[[], Client]", records: "Sequence[Record]", is_asked_for: bool) -> list[str]:
    """Show how these records differ from those in force, if meta answers; returns the removals that must be confirmed."""
    from meta.api.schemas.tokens import Whoami
    from meta.cli.errors import TooLarge
    from meta.cli.steps import confirm, record_files

    found = None
    with ExitStack() as stack:
        try:
            client = stack.enter_context(connect())
            problem = "" if client.get("/whoami", Whoami).role in ROLES else "this needs a token of a viewer"
        except MetaError as e:
            problem = str(e)
        if not problem:
            try:
                found = record_files.compared(client, records)
            except (TryLater, TooLarge) as e:  # any other refusal is about the file
                problem, is_asked_for = str(e), True
    if found is None:
        if is_asked_for:
            click.echo(visible(f"note: not compared with the records in force: {problem}"), err=True)
        return []
    if found.changes:
        confirm.show_changes(found, err=True)
        confirm.show_doubts(found, err=True)
    return found.removals


def _check_variables(file: Path, command: click.Command) -> None:
    from meta.cli import variables
    from meta.errors import RecordsError
    from meta.records.files.load import decode
    from meta.settings import GONE_VARIABLES

    try:
        text = decode(file.read_bytes(), str(file))
    except OSError as e:
        raise Misconfigured(f"{file} cannot be read: {e.strerror}") from e
    if found := variables.problems(text, variables.known(command) | GONE_VARIABLES.keys()):
        raise RecordsError(str(file), found)
    click.echo(visible(f"{file}: no unknown variables, and only lines that set variables"))


@click.command(short_help="Put an edited records file in force.")
@options.url
@options.variable(
    "--state-file",
    "STATE_FILE",
    metavar="FILE",
    type=a_path(),
    help="Send SIGHUP to the meta that wrote this file, instead of a request to a URL.",
)
@_confirmed
def reload(url: str, state_file: Path | None, yes: bool) -> None:
    """Make the meta on this machine read its records file again. It shows what that changes, and how many hosts it affects.

    A file with errors changes nothing: exit 1, with every error. A file that removes more than half of the agents, or of an
    agent's overrides, may be truncated: it is refused without --yes, which does not work by SIGHUP.

    \b
    Examples:
      meta reload --url http://127.0.0.1:2100
      meta reload --yes
      meta reload --state-file var/meta.state
    """
    if state_file and yes:
        raise click.UsageError("--yes does not work with --state-file, which uses a signal: use --url instead")
    if state_file:
        _signal(state_file)
    else:
        _ask(url, yes)


def _signal(state_file: Path) -> None:
    from updater.errors import TryLater as NoAnswer
    from updater.service import readiness

    try:
        said = readiness.ask_to_reload(state_file, RELOADS_WITHIN)
    except NoAnswer as e:
        raise TryLater(str(e)) from e
    if said.word == readiness.REFUSED:
        raise _not_reloaded(said.text)
    *lines, agents = said.text.splitlines() or [""]
    for line in lines:
        click.echo(line)
    click.echo(f"reloaded: {agents}")


def _ask(url: str, yes: bool) -> None:
    from meta.cli.client import Client
    from meta.cli.steps import confirm

    with Client(url) as client:
        found = _asked(client, "?dryRun=true")
        if (lines := found.get("difference")) is not None:  # an older meta sends none, and has reloaded already
            confirm.show_difference(lines, err=False)
            if lines:
                confirm.show_touched(found["affected"], err=False)
            removals = found["removals"]
            if not yes:
                confirm.require_confirmed(removals)
            found = _asked(client, f"?confirm={found['seal']}" if removals else "")
    click.echo(f"reloaded: {counted(len(found['data']['agents']), 'agent')}")


def _asked(client: "Client", query: str) -> dict[str, Any]:
    """The answer of /config/reload. Raises TryLater and Misconfigured."""
    status, answer = client.plain(f"/config/reload{query}")
    if status == 403:
        raise TryLater(
            f"the meta at {client.url} reloads only for its own machine: run this there, with its loopback address as --url"
        )
    if not isinstance(answer, dict):
        raise Misconfigured(f"the server at {client.url} is not meta (status {status}): check META_URL")
    if answer.get("msg") != "success":
        raise _not_reloaded(str(answer.get("msg")))
    return answer


def _not_reloaded(why: str) -> TryLater:
    return TryLater(f"not reloaded; the former records stay in force:\n{why}")
