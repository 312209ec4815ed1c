"""The command `meta`. The exit code is 0 for success, 1 for a failure, 2 for a bad option, file or environment.

Errors are one sentence (`check` lists all errors). Slow modules are imported by the commands that need them, so that help
appears at once.
"""

import os
import sys
from contextlib import nullcontext

import click

from meta.cli import options, variables
from meta.cli.commands import database, elves, files, history, hosts, labels, records, serve, status, tarballs, tokens
from meta.errors import EditRefused, MetaError, RecordsError
from updater.service import hangups, interrupt
from updater.service.command_line import Commands
from updater.wire.text import visible, visible_error

_PAST = ("history", "rollback", "ban", "unban", "bans")
SECTIONS = {
    "Desired state": ["get", "set", "unset", "retry", "apply", "diff", "export", "import", *_PAST],
    "Hosts": ["status", "hosts", "host", "explain", "label", "retire", "unretire"],
    "Releases": ["publish", "tarballs"],
    "People": ["token", "whoami"],
    "Service": ["serve", "check", "reload", "db", "backup", "elves"],
}  # fmt: skip


def _print_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        from updater.wire.heartbeat import VERSION

        click.echo(f"meta {VERSION}")
        context.exit()


class _Group(Commands):
    """Lists the commands in sections."""

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(60)) for name in names])


COMMANDS = (
    *(records.get, records.set_, records.unset, records.retry),
    *(files.apply, files.diff, files.export, files.import_),
    *(history.history, history.rollback, history.ban, history.unban, history.bans),
    *(status.status, hosts.hosts, hosts.host, hosts.explain),
    *(labels.label, labels.retire, labels.unretire),
    *(tarballs.publish, tarballs.tarballs, tokens.token, tokens.whoami),
    *(serve.serve, serve.check, serve.reload, database.db, database.backup, elves.elves),
)


@click.group(cls=_Group, commands=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show it.")
def cli() -> None:
    """Tell every host which agents to run, and know which ones it runs.

    \b
    Start meta, and create the token of its first admin:
      meta serve --tarballs ./tarballs
      umask 077; mkdir -p ~/.config/meta
      meta token new me --role admin --database sqlite:///var/meta.db > ~/.config/meta/token
    Release a version, to some hosts first and then to all; and roll it back if it is bad:
      meta publish my-agent-1.0.1.tar.gz
      meta set my-agent version=1.0.1 --for prefix:web- --why "try it"
      meta status my-agent --watch
      meta set my-agent version=1.0.1
      meta rollback --agent my-agent --why "1.0.1 leaks memory"
    Edit all records as one file, in YAML (records.example.yaml shows every field) or an ops-meta cfg.json:
      meta export -o records.yaml && $EDITOR records.yaml && meta apply records.yaml
      meta import cfg.json
    Or manage them in a file on meta's machine:
      meta serve --records records.yaml --tarballs ./tarballs
      meta check records.yaml && meta reload

    Commands use the meta at META_URL (http://127.0.0.1:2000), with the token in META_TOKEN or ~/.config/meta/token. They
    print tables, or with -o JSON or YAML for programs. They exit with 0 on success, 1 on failure, and 2 when you must change
    an option, a file or the environment.

    Shell completion: eval "$(_META_COMPLETE=bash_source meta)" (or zsh_source, fish_source).
    """


def main() -> None:
    """Run the command and turn errors into exit codes; interrupts are handled by updater.service.interrupt."""
    with interrupt.has_a_code():
        _run()


def _run() -> None:
    if "_META_COMPLETE" not in os.environ:  # during shell completion it would not be shown
        for sentence in _doubts(variables.known(cli)):
            click.echo(f"warning: {visible(sentence)}", err=True)
    is_serving = _serves()
    if not is_serving:
        hangups.let_through()
    try:
        with nullcontext() if is_serving else interrupt.always_ends():
            cli(prog_name="meta")
    except MetaError as e:
        for line in getattr(e, "lines", ()):
            click.echo(visible_error(line), err=True)
        click.echo(visible_error(str(e) if isinstance(e, RecordsError | EditRefused) else f"meta: {e}"), err=True)
        sys.exit(e.exit_code)


def _serves() -> bool:
    return options.is_long_running(cli.commands.get(next(iter(sys.argv[1:]), "")))


def _doubts(known: set[str]) -> list[str]:
    """Return warnings about variables META_... in the environment that are unknown or no longer settings."""
    unknown = set(os.environ) - known
    if not any(name.startswith(variables.PREFIX) for name in unknown):
        return list(variables.near_misses(unknown, known))
    from meta.settings import GONE_VARIABLES, KEYS

    left = unknown - GONE_VARIABLES.keys()
    of_file = variables.keys_of_the_file(left, KEYS)
    left -= of_file.keys()
    others = variables.others(left, known) if _serves() else ()
    gone = variables.gone_away(unknown, GONE_VARIABLES)
    return [*gone, *of_file.values(), *variables.near_misses(left, known), *others]
