"""Sends the host's heartbeat: one POST, one checked reply."""

from updater.errors import Misconfigured, Refused, TryLater
from updater.host.context import Host
from updater.meta_client import error_texts
from updater.wire.heartbeat import Report, WireError, render_report
from updater.wire.limits import MAX_BODY
from updater.wire.reply import Reply, parse_reply
from updater.wire.urls import shown


class TooLarge(TryLater):
    """meta, or a proxy before it, does not take a report of this size."""


def heartbeat(host: Host, report: Report) -> Reply:
    """Send a report to meta and return its reply.

    Raises TryLater, of which TooLarge is one, or Refused if there is no usable reply; then nothing may be changed on the host.
    """
    url, within = host.config.heartbeat_url, host.config.timeouts.heartbeat
    with host.http.exchange("POST", url, within, render_report(report), redirects=False) as answer:
        if answer.status != 200:
            hint = " (it requires a token of this host: see `updater enrol --help`)" if answer.status == 401 else ""
            problem = TooLarge if answer.status == 413 else TryLater
            raise problem(f"{error_texts.in_words(answer)}{hint}", answer.retry_after)
        body = answer.read(MAX_BODY)
    try:
        return parse_reply(body)
    except WireError as e:
        raise Refused(f"{shown(url)}: {e}") from e


def is_reachable(host: Host) -> bool:
    """Whether meta answers `/health` now."""
    url = f"{host.config.base_url}/health"
    try:
        with host.http.exchange("GET", url, host.config.timeouts.heartbeat) as answer:
            return answer.status == 200
    except (TryLater, Refused, Misconfigured):
        return False
