"""Why an agent waits is logged once, and not in each cycle."""

import logging

import pytest

from helpers.agents import install, script
from updater.host.waits_log import AGAIN, WaitsLog
from updater.reconcile import cycle

COUNTS = script('[ "$1" = status ] && { echo . >>../looks; echo up since $(wc -l <../looks) looks; }; exit 0')


def test_a_status_that_counts_is_warned_of_once(host, site, caplog):
    install(host.layout.root, "agent", "1", COUNTS)
    site.desire(("agent", "2"))
    site.publish(version="2")
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert not cycle.run(host).matches
    assert len([line for line in caplog.messages if "cannot tell whether 1 runs" in line]) == 1


@pytest.mark.parametrize(
    ("waits", "count"),
    [
        ([("busy: 'up 1'", 0), ("busy: 'up 2'", 60), ("busy: 'up 3'", AGAIN - 1)], 1),
        ([("busy: 'up 1'", 0), ("busy: 'up 2'", AGAIN + 1), ("busy: 'up 3'", AGAIN + 2)], 2),
        ([("busy: 'up 1'", 0), ("busy: 'up 1'", AGAIN + 1)], 1),
        ([("busy: 'up 1'", 0), ("held: 'up 2'", 1), ("held: 'up 2'", 2)], 2),
        ([("busy: 'up 1'", 0), ("", 1), ("busy: 'up 1'", 2)], 2),
        ([("busy: 'up 1'", 0), ("busy: 'up 2'", -60)], 2),
    ],
    ids=["within an hour", "each hour", "the same words", "another kind", "it did not wait in between", "set back"],
)
def test_the_kind_of_a_wait_decides_and_else_an_hour(waits, count, caplog):
    log = WaitsLog()
    for text, at in waits:
        log.note("agent", text, at, status=text.partition("'")[2].rstrip("'"))
    assert len(caplog.messages) == count
