"""A version that is ordered with other bytes than are installed is refused, and told once for each order."""

import json

import pytest

from updater.host import operator_requests
from updater.host.context import Host
from updater.model.actions import Source
from updater.model.layout import MARKER
from updater.net.http import Http
from updater.reconcile.agent_turn import converge
from updater.reconcile.cycle import run

OTHER = {"md5": "0" * 32, "sha256": "0" * 64}


@pytest.fixture
def tarball(host, site):
    """The tarball of version 1, which runs on the host and has come through its watch."""
    published = site.publish(version="1")
    site.desire(("agent", "1"))
    run(host)
    return published


def told(site):
    return [(one["to"], one["step"], one["result"]) for one in site.outcomes() if one["step"] == "order"]


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_other_bytes_are_refused_and_told_once_at_once(host, site, tarball, kind):
    site.desire(site.entry(version="1", **{kind: OTHER[kind]}))
    before = len(site.reports)
    [turn] = run(host).turns
    assert len(site.reports) == before + 2, "a second report at once"
    assert told(site) == [("1", "order", "refused")]
    reason = f"1 is installed with {kind} {getattr(tarball, kind)}, desired says {OTHER[kind]}: publish changed bytes"
    assert site.outcomes()[-1]["reason"].startswith(reason)
    assert turn.waits.startswith(reason)
    for _ in range(2):
        run(host)
    assert told(site) == [("1", "order", "refused")]


def test_what_is_ordered_next_is_judged_by_itself(host, site, tarball):
    orders = [site.entry(version="1", md5=md5) for md5 in (OTHER["md5"], tarball.md5, "1" * 32, OTHER["md5"])]
    for order in orders:
        site.desire(order)
        run(host)
    assert told(site) == [("1", "order", "refused")] * 3


def test_bytes_that_fit_later_are_told_too(host, site, tarball):
    site.desire(site.entry(version="1", md5=OTHER["md5"]))
    run(host)
    marker = host.layout.agent("agent").install("1") / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"md5": OTHER["md5"]}))
    for _ in range(3):
        run(host)
    assert told(site) == [("1", "order", "refused"), ("1", "order", "done")]


def test_an_updater_that_starts_without_meta_takes_nothing_back(host, site, tarball):
    site.desire(site.entry(version="1", md5=OTHER["md5"]))
    run(host)
    again = Host(host.layout, host.config, Http())
    converge(again, again.orders.last.orders[0], None, Source.KEPT)
    assert again.memories.of("agent").last.result == "refused"


def test_it_is_told_of_an_agent_that_a_person_holds(host, site, tarball):
    operator_requests.hold(host.layout, "agent", "looking at it")
    site.desire(site.entry(version="1", md5=OTHER["md5"]))
    for _ in range(2):
        run(host)
    assert told(site) == [("1", "order", "refused")]


def test_where_there_is_no_digest_to_compare_nothing_is_refused(host, site, tarball):
    site.desire(site.entry(version="1", md5=site.url))  # the base of a digest file
    run(host)
    marker = host.layout.agent("agent").install("1") / MARKER
    marker.write_text(json.dumps({"at": 7}))  # adopted, or of a time before digests were remembered
    site.desire(site.entry(version="1", **OTHER))
    run(host)
    assert told(site) == []
