"""What a command line takes and shows: text is UTF-8, and file names are any bytes but a line break.

No message hides a character. Output that cannot be written is an error in one sentence.
"""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from updater.wire.text import quoted, visible


class _AnyPath(click.Path):
    """A file name of any bytes but a line break, which no message could show on its line."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if "\n" in os.fsdecode(value):
            self.fail(f"{quoted(os.fsdecode(value))} has a line break", parameter, context)
        return super().convert(value, parameter, context)


def a_path(**what: Any) -> click.Path:
    """The type of an option or argument that is a Path; what: as for click.Path."""
    return _AnyPath(path_type=Path, **what)


class _Text(click.types.StringParamType):
    """Text in UTF-8; other bytes are refused, and the argument is named."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        text = super().convert(value, parameter, context)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{quoted(text)} is not UTF-8", parameter, context)
        return text


class Commands(click.Group):
    """A group whose errors show every character, and all of whose commands take text in UTF-8 alone."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as e:
            shown = click.UsageError(visible(e.format_message()), e.ctx)
            raise shown from e

    def main(self, *given: Any, **more: Any) -> Any:
        try:
            return super().main(*given, **more)
        except OSError as e:
            if [*traceback.walk_tb(e.__traceback__)][-1][0].f_globals["__name__"] != click.echo.__module__:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # as Python would try again at its end
            click.echo(f"{more.get('prog_name')}: the output cannot be written: {e.strerror}", err=True)
            sys.exit(1)

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        _take_text(self)
        return super().make_context(*given, **more)


def _take_text(command: click.Command) -> None:
    for parameter in command.params:
        if type(parameter.type) is click.types.StringParamType:
            parameter.type = _Text()
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        _take_text(one)
