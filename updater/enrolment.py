"""A token of this host's own: meta gives it in exchange for an enrolment token, and wants to see it from then on.

Promises that neither token is ever shown or logged, that the host's own one is on the disk, private, before this says that
it has it, and that an old one stays in force until then.
"""

import time
from contextlib import suppress

import msgspec

from updater import files, naming
from updater.credentials import origin
from updater.errors import Misconfigured, Refused, TryLater
from updater.host import Host
from updater.http import Http, Response, shown
from updater.wire import one_line

LIMIT = 64 << 10  # bytes of an answer
_REMEDIES = {
    401: "it does not know this enrolment token: get a new one",
    403: "this enrolment token is not for this host",
    404: "this meta enrols no hosts, and wants no tokens",
    405: "this meta enrols no hosts, and wants no tokens",
    409: "it has enrolled this host before, or the enrolment token is used up: an admin can take the host's token back",
    410: "this enrolment token has expired or is used up: get a new one",
}


class _Given(msgspec.Struct):
    """meta's answer, as far as we care."""

    token: str


class _Problem(msgspec.Struct):
    """An error of meta's, in the words of RFC 9457."""

    detail: str = ""
    title: str = ""


def state(host: Host) -> str:
    """Whether this host has a token for meta and where it is from, in words."""
    configured = _configured(host)
    if configured:
        return f"by cfg.json, with {configured}"
    try:
        since = host.layout.credentials.stat().st_mtime
    except FileNotFoundError:
        return "no"
    except OSError as e:
        return f"unknown: {e.strerror}"
    return f"with {host.config.base_url}, {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}"


def check(host: Host, again: bool) -> None:
    """Raises Misconfigured when this host should not enrol now; again: although it has a token."""
    if configured := _configured(host):
        raise Misconfigured(
            f"cfg.json names credentials for {host.config.base_url} ({configured}), which count more than an enrolment: "
            "take them out first"
        )
    if host.layout.credentials.exists() and not again:
        raise Misconfigured(f"this host is enrolled already ({state(host)}): --again gets it another token")


def enrol(host: Host, secret: str) -> None:
    """Exchange an enrolment token for this host's own. Raises Misconfigured, Refused, TryLater."""
    if not _is_token(secret):
        raise Misconfigured("what was given is no enrolment token: it must be one word")
    files.make_directory(host.layout.own)  # before meta is asked: it may give a token only once
    files.check_room(host.layout.own, len(secret))
    token = _asked(host, secret)
    files.write_atomic(host.layout.credentials, f"Bearer {token}\n".encode(), mode=0o600)


def _asked(host: Host, secret: str) -> str:
    url, within = f"{host.config.base_url}/api/v1/enrol", host.config.timeouts.heartbeat
    body = msgspec.json.encode({"hostname": naming.reported(host)})
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    with Http(host.config.ca_file).exchange("POST", url, within, body, headers, redirects=False) as answer:
        if answer.status not in (200, 201):
            _raise(answer)
        try:
            token = msgspec.json.decode(answer.read(LIMIT), type=_Given).token
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
            raise Refused(f"{shown(url)} gave no token, but something else: is it meta?") from e
    if not _is_token(token):
        raise Refused(f"{shown(url)} gave something that cannot be a token")
    return token


def _raise(answer: Response) -> None:
    body = answer.read(LIMIT)
    said = body.decode("utf-8", "replace")
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        problem = msgspec.json.decode(body, type=_Problem)
        said = problem.detail or problem.title or said
    what = f"{answer.way} answered {answer.status}: {one_line(said, 200)}"
    if answer.status in _REMEDIES:
        raise Misconfigured(f"{what} ({_REMEDIES[answer.status]})")
    if answer.status in (408, 425, 429) or answer.status >= 500:
        wait = f"; try again in {answer.retry_after:.0f} s" if answer.retry_after else "; try again later"
        raise TryLater(what + wait, answer.retry_after)
    raise Refused(what)


def _configured(host: Host) -> str:
    """The file that cfg.json names for meta's origin, or ""."""
    meta = origin(host.config.base_url)
    return next((file for url, file in host.config.credentials.items() if origin(url) == meta), "")


def _is_token(text: str) -> bool:
    return 0 < len(text) <= 4096 and text.isascii() and text.isprintable() and " " not in text
