"""What a command line takes and shows: text is UTF-8, file names are any bytes, and no message hides a character."""

from pathlib import PosixPath
from typing import Any

import click

from updater.wire.text import file_name, quoted, visible


class FilePath(PosixPath):
    """A path that is shown so in an f-string that every character of it can be seen."""

    def __format__(self, spec: str) -> str:
        return format(file_name(str(self)), spec)


def a_path(**what: Any) -> click.Path:
    """The type of an option or argument that is a FilePath; what: as for click.Path."""
    return click.Path(path_type=FilePath, **what)


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
        except click.UsageError as e:
            shown = click.UsageError(visible(e.format_message()), e.ctx)
            raise shown from e

    def make_context(self, *given: Any, **more: Any) -> click.Context:
        _take_text(self)
        return super().make_context(*given, **more)


def _take_text(command: click.Command) -> None:
    for parameter in command.params:
        if type(parameter.type) is click.types.StringParamType:
            parameter.type = _Text()
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        _take_text(one)
