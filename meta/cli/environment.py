"""Reads the token of the command line from META_TOKEN, else from a file that only its owner can read.

A token is never an argument, since `ps` shows arguments. Refuses a file that others can read, and a text that cannot be a
token, since the content of a wrong file would be sent to the server.
"""

import os
import re
import stat
from pathlib import Path

from meta.errors import Misconfigured
from updater.wire.limits import MAX_TOKEN
from updater.wire.text import encoding_problem, odd_characters, trimmed

LOCAL = "http://127.0.0.1:2000"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750


def token(file: Path | None) -> str:
    """The token, or "" if there is none. file: from the option; it must exist. Raises Misconfigured."""
    if file is None and (given := trimmed(os.environ.get("META_TOKEN", ""))):
        return _checked(given, "META_TOKEN")
    path = file or default_file()
    try:
        with path.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            text = opened.read(MAX_TOKEN + 2)
    except FileNotFoundError:
        if file is None:
            return ""
        raise Misconfigured(f"the token file {path} does not exist") from None
    except OSError as e:
        raise Misconfigured(f"the token file {path} cannot be read: {e.strerror}") from e
    if stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"the token file {path} can be read by others: chmod 600 {path}")
    if problem := encoding_problem(text):
        raise Misconfigured(f"the token file {path} {problem}")
    return _checked(trimmed(text.decode("utf-8-sig", "replace")), f"{path}")


def default_file() -> Path:
    """~/.config/meta/token, or the same below XDG_CONFIG_HOME."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else Path.home() / ".config") / "meta" / "token"


def _checked(text: str, where: str) -> str:
    if not _TOKEN.fullmatch(text) or len(text) > MAX_TOKEN:
        odd = odd_characters(text)
        found = f", without {odd}" if odd else ""
        found = f", of {MAX_TOKEN} characters at most" if len(text) > MAX_TOKEN else found
        raise Misconfigured(f"{where} holds no token: it must be the one line that `meta token new` printed{found}")
    return text
