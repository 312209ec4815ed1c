"""Options that several commands share, and decorators that pass a client. Imports no slow modules, so help appears at once."""

from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meta.choices import FORMATS, LEVELS
from meta.cli.environment import LOCAL
from meta.errors import Misconfigured
from updater.service import hangups
from updater.service.command_line import a_path

if TYPE_CHECKING:
    from meta.cli.client import Client
    from updater.service.readiness import Announcer

Command = Callable[..., Any]


def variable(name: str, envvar: str, *short: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that can also be set by the variable META_`envvar`. short: more names of the option."""
    return click.option(*short, name, envvar=f"META_{envvar}", show_envvar=True, **attributes)


log_level = variable(
    "--log-level",
    "LOG_LEVEL",
    type=click.Choice(LEVELS),
    show_default="info",
    help="How much to log.",
)
log_format = variable(
    "--log-format",
    "LOG_FORMAT",
    type=click.Choice(FORMATS),
    show_default="text",
    help="Lines for people, or one JSON object per line.",
)
database = variable(
    "--database",
    "DATABASE",
    metavar="URL",
    show_default="sqlite:///var/meta.db",
    help="The database, an SQLAlchemy URL: sqlite:///FILE or postgresql://USER@HOST/NAME.",
)

records = variable(
    "--records",
    "RECORDS",
    metavar="FILE",
    type=a_path(),
    show_default="the database",
    help="Manage the records in this file: YAML, or ops-meta's cfg.json.",
)
state_file = variable(
    "--state-file",
    "STATE_FILE",
    metavar="FILE",
    type=a_path(),
    help="Write into this file that it serves, and how a reload ended; ./control sets it.",
)
check = click.option("--check", is_flag=True, help="Only check whether it could serve: exit 0, or say what is wrong.")
keep_up = click.option(
    "--keep-up",
    is_flag=True,
    help="Restart it when it ends by itself, after 1 to 60 s; needs --state-file.",
)

output = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="The format: for people, or for programs.",
)

yes = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
dry_run = click.option("--dry-run", is_flag=True, help="Show what would change and on how many hosts; change nothing.")
why = click.option("--why", default="", metavar="TEXT", help="The reason, for the history.")

url = variable("--url", "URL", metavar="URL", default=LOCAL, show_default=True, help="The URL of meta.")
token_file = variable(
    "--token-file",
    "TOKEN_FILE",
    metavar="FILE",
    type=a_path(),
    show_default="~/.config/meta/token",
    help="A file with your token, mode 600; used if META_TOKEN is not set.",
)
ca_file = variable(
    "--ca-file",
    "CA_FILE",
    metavar="FILE",
    type=a_path(),
    show_default="those of the Python package certifi",
    help="Certificate authorities to trust for https.",
)


def long_running(command: Command) -> Command:
    """The options of a command that serves until it is stopped. SIGHUP is ignored until the service handles it.

    The command gets `check` and `announcing`, which returns an Announcer, with --keep-up in a new process.
    """

    @check
    @keep_up
    @state_file
    @wraps(command)
    def with_announcer(*arguments: Any, keep_up: bool, state_file: Path | None, **named: Any) -> Any:
        hangups.ignore()
        if keep_up and not state_file:
            raise Misconfigured("--keep-up needs --state-file, to know whether the service was ever ready")
        keep_up = keep_up and not named["check"]
        return command(*arguments, announcing=partial(_announcing, keep_up, state_file), **named)

    return with_announcer


def is_long_running(command: click.Command | None) -> bool:
    """Whether it serves: such a command has its own signal handlers, and children that must not inherit a thread."""
    return command is not None and any(one.name == "state_file" for one in command.params)


def _announcing(keeping: bool, state_file: Path | None) -> "Announcer":
    from meta.process.keep_up import keep_up
    from updater.service.readiness import Announcer

    announcer = Announcer.of_this_process(state_file)
    if keeping:
        keep_up(announcer)
    return announcer


def connection(command: Command) -> Command:
    """The options for `connect`: URL, token file and certificate authorities."""
    return url(token_file(ca_file(command)))


def connect(url: str, token_file: Path | None, ca_file: Path | None) -> "Client":
    from meta.cli.client import Client
    from meta.cli.environment import token

    return Client(url, token(token_file), ca_file)


def connected(command: Command) -> Command:
    """Pass the command a Client, made from the connection options, as its first argument."""

    @connection
    @wraps(command)
    def with_client(*arguments: Any, url: str, token_file: Path | None, ca_file: Path | None, **named: Any) -> Any:
        with connect(url, token_file, ca_file) as client:
            return command(client, *arguments, **named)

    return with_client


def changing(command: Command) -> Command:
    """Pass the command a meta.cli.steps.confirm.Editor as its first argument, with the options of all changing commands."""

    @why
    @dry_run
    @yes
    @output
    @connected
    @wraps(command)
    def with_editor(
        client: "Client", *arguments: Any, why: str, dry_run: bool, yes: bool, output: str, **named: Any
    ) -> Any:
        from meta.cli.steps.confirm import Editor

        return command(Editor(client, why, dry_run, yes, output), *arguments, **named)

    return with_editor


def agents(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion of an agent's name."""
    from meta.cli import completion

    return completion.agents(begun)


def hosts(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion of a host's name."""
    from meta.cli import completion

    return completion.hosts(begun)


def versions(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion of a version of the AGENT, or --agent, given before it."""
    from meta.cli import completion

    return completion.versions(begun, context.params.get("agent") or "")


def banned(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion of a banned version."""
    from meta.cli import completion

    return completion.banned(begun, context.params.get("agent") or "")


def fields(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion of FIELD=VALUE."""
    from meta.cli import completion

    before = context.params.get(parameter.name or "") or ()
    return completion.fields(begun, before, context.params.get("agent") or "")


def field_names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion of FIELD."""
    from meta.cli import completion

    return completion.field_names(begun)


def selectors(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion of a selector."""
    from meta.cli import completion

    return completion.selectors(begun)


def labels(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Shell completion of a label."""
    from meta.cli import completion

    return completion.labels(begun)


def selecting(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """An option that takes a SELECTOR, which the shell completes."""
    return click.option(*names, metavar="SELECTOR", shell_complete=selectors, **attributes)


def agent(**attributes: Any) -> Callable[[Command], Command]:
    """The argument AGENT; an invalid name is refused before meta is asked."""
    return click.argument("agent", shell_complete=agents, callback=_no_strange_agent, **attributes)


def host(name: str, **attributes: Any) -> Callable[[Command], Command]:
    """An argument of one or several host names; invalid names are refused before meta is asked."""
    return click.argument(name, shell_complete=hosts, callback=_no_strange_host, **attributes)


def _no_strange_agent(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    from updater.wire.names import name_problem

    return _unless(name_problem(value) if value else "", value)


def _no_strange_host(_context: click.Context, _parameter: click.Parameter, value: Any) -> Any:
    from updater.wire.names import hostname_problem

    names = value if isinstance(value, tuple) else (value,)
    return _unless(next(filter(None, map(hostname_problem, names)), ""), value)


OF_AN_AGENT: Any = {"shell_complete": agents, "callback": _no_strange_agent}  # for options that name an agent


def _unless(problem: str, value: Any) -> Any:
    if problem:
        raise Misconfigured(problem)
    return value
