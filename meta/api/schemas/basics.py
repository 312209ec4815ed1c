"""Building blocks of the REST API's types: names and other texts with their patterns, and the base classes of bodies."""

from typing import Annotated

import msgspec
from msgspec import Meta

from updater.wire.limits import (
    HOSTNAME_FORM,
    LABEL_FORM,
    MAX_HOSTNAME,
    MAX_LABEL,
    MAX_LISTED,
    MAX_NAME,
    MAX_NUMBER,
    MAX_TOKEN_NAME,
    MAX_WHY,
    NAME_FORM,
    TARBALL_FORM,
    TOKEN_NAME_FORM,
    VERSION_FORM,
)

END = r"(?!\n)$"  # Python's $ alone also matches before a final newline
NAME = f"^{NAME_FORM}{END}"
VERSION = f"^{VERSION_FORM}{END}"
HOSTNAME = f"^{HOSTNAME_FORM}{END}"
TARBALL = f"^{TARBALL_FORM}{END}"
LABEL_KEY = f"^{LABEL_FORM}{END}"
LABEL_VALUE = f"^({LABEL_FORM})?{END}"
TOKEN_NAME = f"^{TOKEN_NAME_FORM}{END}"

IN_WORDS = {
    NAME: f"1 to {MAX_NAME} letters, digits, '.', '_' or '-', the first a letter or digit",
    VERSION: f"1 to {MAX_NAME} letters, digits or any of ._+~=-, the first a letter or digit",
    HOSTNAME: f"1 to {MAX_HOSTNAME} letters, digits, '.', '_' or '-', the first a letter or digit",
    TARBALL: "NAME-VERSION.tar.gz",
    LABEL_KEY: f"1 to {MAX_LABEL} letters, digits, '.', '_' or '-'",
    LABEL_VALUE: f"blank or 1 to {MAX_LABEL} letters, digits, '.', '_' or '-'",
    TOKEN_NAME: f"1 to {MAX_TOKEN_NAME} letters, digits, blanks or any of @._-, the first a letter or digit",
}  # the patterns in words

AgentName = Annotated[str, Meta(pattern=NAME)]
Version = Annotated[str, Meta(pattern=VERSION)]
Hostname = Annotated[str, Meta(pattern=HOSTNAME)]
Why = Annotated[str, Meta(max_length=MAX_WHY)]
Number = Annotated[int, Meta(ge=0, le=MAX_NUMBER)]
HostList = Annotated[list[Hostname], Meta(min_length=1, max_length=MAX_LISTED)]
LabelSet = dict[Annotated[str, Meta(pattern=LABEL_KEY)], Annotated[str, Meta(pattern=LABEL_VALUE)]]


class Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A body that clients send; unknown fields are refused."""


class Answer(msgspec.Struct, rename="camel"):
    """A body that meta sends; clients ignore unknown fields."""
