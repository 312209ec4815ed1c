"""Describes errors of the HTTP library in plain words: which server was asked, and what happened.

The cause is an error of the operating system, TLS or the HTTP parser. The library wraps it several times, each time with a
text that shows its internal objects.
"""

import http.client
import re
import socket
import ssl
from collections.abc import Iterator

from urllib3.exceptions import InvalidHeader

from updater.wire.text import one_line

_OPENSSL = re.compile(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$")


def in_words(error: BaseException) -> str:
    """One line: `no answer from HOST port N: REASON`, or the reason alone if the error does not name the server."""
    place = next((found for cause in _causes(error) if (found := _place(cause))), "")
    return f"no answer from {place}: {reason(error)}" if place else reason(error)


def reason(error: BaseException) -> str:
    """One line: what happened, without the server's name."""
    *_, cause = _causes(error)
    return one_line(_reason(cause), 200)


def is_malformed(error: BaseException) -> bool:
    """Whether the peer has answered, and not in HTTP: asking again would not help. An answer that was cut short is none."""
    *_, cause = _causes(error)
    if isinstance(cause, http.client.BadStatusLine):
        return str(cause.args[0]).endswith("\n")
    is_short = isinstance(cause, http.client.IncompleteRead)
    return isinstance(cause, http.client.HTTPException | InvalidHeader) and not is_short


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then the error it wraps, and so on."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        wrapped = (vars(following).get("reason"), *following.args, following.__cause__)
        following = next((one for one in wrapped if isinstance(one, BaseException)), None)


def _place(error: BaseException) -> str:
    """The host and port of the connection that an error carries, or ""."""
    for one in (vars(error).get("conn"), vars(error).get("pool"), *error.args):
        if hasattr(one, "host") and hasattr(one, "port"):
            return f"{one.host} port {one.port}"
    return ""


def _reason(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return _OPENSSL.sub("", error.strerror or str(error))
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer was cut short"
    if isinstance(error, http.client.HTTPException):
        return f"the answer is not HTTP ({_http_mistake(error)})"
    if isinstance(error, InvalidHeader):
        return "its Content-Lengths differ"  # all that urllib3 refuses in a header
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _http_mistake(error: http.client.HTTPException) -> str:
    if isinstance(error, http.client.BadStatusLine | http.client.UnknownProtocol):  # either holds what the server sent
        return f'it begins with "{one_line(str(error).strip(), 80)}"'
    if isinstance(error, http.client.LineTooLong):
        return "one of its lines is too long"
    return "its header has too many lines"  # all that http.client has no class for
