"""Words of which an option, a setting or a query takes one. It loads nothing slow, for the command line's help. Pure."""

from typing import Literal, get_args

LEVELS = ("debug", "info", "warning", "error")  # of the log
FORMATS = ("text", "json")  # of the log
State = Literal["new", "ok", "late", "lost", "retired"]  # of a host: how long it has not been heard of
STATES = get_args(State)
