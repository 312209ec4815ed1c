"""What a `GET /notify` says, and who may be parked."""

import json

import pytest

from meta.heartbeat import notify
from meta.heartbeat.notify import Park
from meta.heartbeat.responses import Answer
from updater.wire.heartbeat import WireError

KNOWN = "0123456789abcdef"


def asked(query=f"hostname=h1&known={KNOWN}", **headers):
    return notify.parse({"QUERY_STRING": query} | headers, 270)


def test_a_park_names_its_host_and_what_it_knows():
    assert asked(HTTP_PREFER="wait=60") == Park("h1", KNOWN, 60, False)
    assert asked(HTTP_AUTHORIZATION="Bearer x").has_token


@pytest.mark.parametrize(
    ("prefer", "wait"),
    [
        ("", 270),
        ("wait=60", 60),
        ("Wait=60", 60),
        ("wait = 60", 60),
        ('wait="60"', 60),
        ("respond-async, wait=60; x=y", 60),
        ("wait=60, wait=10", 60),
        ("wait=0", 0),
        ("wait=100000", 270),
        ("wait=999999999999999999999", 270),
        ("wait=-1", 270),
        ("wait=soon", 270),
        ("return=minimal", 270),
    ],
)
def test_the_wait_is_as_preferred_and_as_allowed(prefer, wait):
    assert asked(HTTP_PREFER=prefer).wait == wait


@pytest.mark.parametrize(
    "query",
    [
        "",
        "hostname=h1",
        f"known={KNOWN}",
        f"hostname=&known={KNOWN}",
        f"hostname=../h&known={KNOWN}",
        f"hostname=h1&hostname=h2&known={KNOWN}",
        "hostname=h1&known=",
        "hostname=h1&known=0123456789ABCDEF",
        "hostname=h1&known=0123456789abcde",
        "hostname=h1&known=0123456789abcdef0",
        "a=b&" * 40,
    ],
)
def test_a_park_that_says_something_else_is_refused(query):
    with pytest.raises(WireError):
        asked(query)


def test_a_wake_is_small_and_says_within_how_many_seconds():
    answer = notify.wake(12.34567)
    assert (answer.status, json.loads(answer.body)) == (200, {"within": 12.346})
    assert len(answer.body) < 100


def test_an_answer_is_known_by_its_bytes():
    assert Answer(200, "text/plain", b"hello").known == "2cf24dba5fb0a30e"
