"""What the shell completes, of every command at once: no command can forget it."""

import click
import pytest
from click.shell_completion import ShellComplete

from meta.cli import cli
from meta.records.selectors import KINDS


def selecting_options(command=cli, path=()):
    """(Words of a command, an option of its that takes a selector), of all commands."""
    for name, below in getattr(command, "commands", {}).items():
        yield from selecting_options(below, (*path, name))
    for option in command.params:
        if isinstance(option, click.Option) and ("--for" in option.opts or option.metavar == "SELECTOR"):
            yield path, option.opts[0]


@pytest.mark.parametrize(("words", "option"), list(selecting_options()), ids=lambda one: "".join(one))
def test_every_option_that_selects_hosts_completes_the_kinds_of_selectors(words, option):
    def completed(begun):
        shell = ShellComplete(cli, {}, "meta", "_META_COMPLETE")
        return [one.value for one in shell.get_completions([*words, "my-agent", option], begun)]

    assert completed("") == [f"{kind}:" for kind in KINDS]
    assert completed("l") == ["label:"]


def test_every_command_that_changes_or_watches_some_hosts_was_looked_at():
    assert {" ".join(words) for words, _ in selecting_options()} >= {"set", "unset", "retry", "status", "label"}
