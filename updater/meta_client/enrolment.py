"""Enrolment: exchanges an enrolment token for this host's own token, which meta requires from then on.

Neither token is ever shown or logged. The host's token is on the disk, readable only by its owner, before success is reported;
until then an old token stays in force. A lost answer does not lock the host out: before meta is asked, a secret is written to
the disk, by which meta recognises a repeated request.
"""

import random
import secrets
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from updater import durable_files, places
from updater.errors import Misconfigured, Refused, TryLater
from updater.host import host_name
from updater.host.context import Host
from updater.meta_client import error_texts
from updater.net import backoff
from updater.net.credentials import origin
from updater.net.http import Http, Response
from updater.wire.limits import MAX_TOKEN
from updater.wire.text import odd_characters
from updater.wire.urls import shown

LIMIT = 64 << 10  # bytes of a response
KNOWN_WITHIN = 5.0  # seconds until every meta knows an enrolment token that was created at another
_REMEDIES = {
    401: "the enrolment token is wrong: get a new one",
    403: "this enrolment token is not for this host",
    404: "this meta does not enrol hosts, and needs no tokens",
    405: "this meta does not enrol hosts, and needs no tokens",
    409: "the enrolment token is valid; an admin can revoke the host's token with `meta token revoke-host`",
    410: "this enrolment token has expired or is used up: get a new one",
}


class _NotKnownYet(Misconfigured):
    """meta does not know the enrolment token yet; it may in `after` seconds."""

    def __init__(self, text: str, after: float):
        super().__init__(text)
        self.after = after


class _Begun(msgspec.Struct):
    """An enrolment that may have been requested from meta."""

    secret: str  # sent with the request
    server: str  # meta's base URL
    hostname: str
    machine: str  # hash of the machine id


class _Given(msgspec.Struct):
    """The part of meta's response that is used."""

    token: str


def state(host: Host) -> str:
    """Whether this host has a token for meta and where it is from, as text for people."""
    configured = _configured(host)
    if configured:
        return f"by cfg.json, with {configured}"
    try:
        since = host.layout.credentials.stat().st_mtime
    except FileNotFoundError:
        return "no"
    except OSError as e:
        return f"unknown: {e.strerror}"
    return f"with {host.config.shown_url}, {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(since))}"


def check(host: Host, again: bool) -> None:
    """Raises Misconfigured if this host should not enrol now. again: allow it although the host has a token."""
    if configured := _configured(host):
        raise Misconfigured(
            f"cfg.json names credentials for {host.config.shown_url} ({configured}), which take precedence over an "
            "enrolment: remove them first"
        )
    if not places.is_missing(host.layout.credentials) and not again:
        raise Misconfigured(f"this host is enrolled already ({state(host)}): --again replaces its token")


def enrol(host: Host, token: str, within: float = 0.0, tell: Callable[[str], None] = lambda _line: None) -> None:
    """Exchange an enrolment token for this host's own token. Raises Misconfigured, Refused, TryLater.

    within: seconds for which the request is repeated while meta is busy or away. While meta does not know the token, it is
    repeated for at most KNOWN_WITHIN seconds. tell: called with one line of text before each repetition.
    """
    if not _is_token(token):
        odd = odd_characters(token)
        most = f" of {MAX_TOKEN} characters at most" if len(token) > MAX_TOKEN else ""
        raise Misconfigured(f"this is no enrolment token: it must be one word{most}{odd and f', without {odd}'}")
    durable_files.make_directory(host.layout.own)  # before meta is asked
    durable_files.check_room(host.layout.own, len(token))
    begun = _begun(host)
    given = _patiently(lambda: _asked(host, token, begun), within, tell)
    durable_files.write_atomic(host.layout.credentials, f"Bearer {given}\n".encode(), mode=0o600)
    durable_files.remove_tree(host.layout.enrolment)


def _begun(host: Host) -> _Begun:
    """The earlier enrolment if this machine asked the same meta and got no answer; else a new one, written to the disk."""
    machine = host_name.machine()
    new = _Begun(secrets.token_urlsafe(32), host.config.base_url, host_name.reported(host), machine)
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        kept = msgspec.json.decode(durable_files.read_state(host.layout.enrolment, LIMIT), type=_Begun)
        if msgspec.structs.replace(new, secret=kept.secret) == kept and _is_token(kept.secret):
            return kept
    durable_files.write_atomic(host.layout.enrolment, msgspec.json.encode(new), mode=0o600)
    return new


def _patiently(ask: Callable[[], str], within: float, tell: Callable[[str], None]) -> str:
    """Repeat `ask` until it returns, see `enrol`. Raises what `ask` raises."""
    deadline, attempt = time.monotonic() + within, 0
    known = time.monotonic() + min(within, KNOWN_WITHIN)
    while True:
        try:
            return ask()
        except _NotKnownYet as e:
            wait = backoff.until_next_enrolment(0, e.after, random.random())  # noqa: S311
            if time.monotonic() + wait > known:
                raise
            tell(f"{e}; a new token may not be known yet: asking again in {wait:.0f} s")
            time.sleep(wait)
        except TryLater as e:
            wait = backoff.until_next_enrolment(attempt, e.after, random.random())  # noqa: S311
            if time.monotonic() + wait > deadline:
                raise TryLater(f"{e}; try again {f'in {e.after:.0f} s' if e.after else 'later'}", e.after) from e
            tell(f"{e}; asking again in {wait:.0f} s")
            time.sleep(wait)
            attempt += 1


def _asked(host: Host, token: str, begun: _Begun) -> str:
    url, within = f"{host.config.base_url}/api/v1/enrol", host.config.timeouts.heartbeat
    body = msgspec.json.encode({"hostname": begun.hostname})
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Idempotency-Key": begun.secret}
    with Http(host.config.ca_file).exchange("POST", url, within, body, headers, redirects=False) as answer:
        if answer.status not in (200, 201):
            _raise(answer)
        try:
            given = msgspec.json.decode(answer.read(LIMIT), type=_Given).token
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
            raise Refused(f"{shown(url)} did not answer with a token: check that it is meta") from e
    if not _is_token(given):
        raise Refused(f"{shown(url)} answered with text that cannot be a token")
    return given


def _raise(answer: Response) -> None:
    what = error_texts.in_words(answer)
    if answer.status == 401 and answer.retry_after:
        raise _NotKnownYet(f"{what} ({_REMEDIES[401]})", answer.retry_after)
    if answer.status in _REMEDIES:
        raise Misconfigured(f"{what} ({_REMEDIES[answer.status]})")
    if answer.status in (408, 425, 429) or answer.status >= 500:
        raise TryLater(what, answer.retry_after)
    raise Refused(what)


def _configured(host: Host) -> str:
    """The file that cfg.json names for meta's origin, or ""."""
    meta = origin(host.config.base_url)
    return next((file for url, file in host.config.credentials.items() if origin(url) == meta), "")


def _is_token(text: str) -> bool:
    return 0 < len(text) <= MAX_TOKEN and text.isascii() and text.isprintable() and " " not in text
