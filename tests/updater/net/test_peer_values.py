"""What peers write for numbers, waits and URLs: read, or refused in words."""

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.errors import Refused, TryLater
from updater.net import peer_values

NOW = datetime(2026, 11, 20, tzinfo=UTC)
ODD_NUMBERS = ["²", "٣", "1²", "+5", "-5", "0x5", "5.0", "1_000", " ", "9" * 19, "9" * 5000, "5, 6", "5,", "many"]


@pytest.mark.parametrize(
    ("text", "value"), [("", None), ("0", 0), ("5", 5), ("007", 7), ("9" * 18, 10**18 - 1), ("5, 5", 5), ("5,5", 5)]
)
def test_a_length_is_a_number_of_bytes(text, value):
    assert peer_values.content_length(text) == value


@pytest.mark.parametrize("text", ODD_NUMBERS)
def test_a_length_that_is_no_number_is_said_to_be_none(text):
    with pytest.raises(Refused, match=r'^its Content-Length is not a number of bytes: ".{0,80}"$'):
        peer_values.content_length(text)


@pytest.mark.parametrize(("text", "start"), [("bytes 5-9/10", 5), ("bytes 0-0/*", 0)])
def test_a_range_begins_somewhere(text, start):
    assert peer_values.range_start(text) == start


@pytest.mark.parametrize(
    "text",
    ["", "bytes 5", "5-9/10", "bytes */10", *(f"bytes {n}-9/10" for n in ODD_NUMBERS), "bytes 5-9/" + "9" * 5000],
)
def test_a_range_that_is_none_is_said_to_be_none(text):
    with pytest.raises(TryLater, match="its Content-Range is not a range of bytes"):
        peer_values.range_start(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        (" 60 ", 60),
        ("9999999", 86400),
        ("9" * 5000, 86400),
        ("Fri, 20 Nov 2026 00:01:00 GMT", 60),
        ("Fri, 20 Nov 2099 00:00:00 GMT", 86400),
        ("Fri, 20 Nov 2020 00:00:00 GMT", 0),
        ("Fri, 20 Nov 99999999999999999999 00:00:00 GMT", 0),
        ("Fri, 20 Nov 2026 00:00:00 +99999999999999", 0),
        ("Fri, 20 Nov 0001 00:00:00 +2359", 0),
        ("Fri, 20 Nov 2026 00:00:00 -0000", 0),
        ("Fri, " + "2" * 5000, 0),
        ("²", 0),
        ("-5", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_a_wait_is_at_most_a_day_and_none_where_it_cannot_be_understood(text, seconds):
    assert peer_values.wait(text, NOW) == seconds


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("http://other/x", "http://other/x"),
        ("/x", "http://meta:80/x"),
        ("x", "http://meta:80/a/x"),
        ("//other/x", "http://other/x"),
        ("https://other/x#part", "https://other/x"),
        ("http://[::1]:8/x", "http://[::1]:8/x"),
        ("/caf\u00e9 x", "http://meta:80/caf%E9%20x"),
        ("/a%20b", "http://meta:80/a%20b"),
        ("/a%2fb/../c?", "http://meta:80/a%2fb/../c?"),
        ("HTTPS://Other/x?a=%7e", "https://Other/x?a=%7e"),
        ("?page=2", "http://meta:80/a/b?page=2"),
        ("../c", "http://meta:80/c"),
    ],
)
def test_a_redirect_leads_somewhere(location, target):
    assert peer_values.redirect_target("http://meta:80/a/b", location) == target


ODD_URLS = [
    "",
    " ",
    "http://[::1",
    "http://[zz]/",
    "http://",
    "http:///x",
    "http://a:99999/",
    "http://a:0/",
    "http://a:\u00b2/",
    "http://a:b/",
    "file:///etc/passwd",
    "ftp://a/",
    "javascript:alert(1)",
    "http:other/x",
    "http://other\\@evil/x",
    "http://a{b}/",
    "http://a b/",
    "http://\u00ff\u00fe/",
    "http://..:80/",
    f"http://xn--{'a' * 70}/",
    "http://user:word@a b/",
    "http://[::1%25lo]/",
    "/" + "x" * 10_000,
]


@pytest.mark.parametrize("location", ODD_URLS)
def test_a_redirect_to_no_url_is_refused_in_words(location):
    with pytest.raises(Refused, match=r'^it redirects to ".{0,80}", which is no ') as caught:
        peer_values.redirect_target("http://meta/a", location)
    assert str(caught.value).isprintable()


def test_a_redirect_does_not_leave_tls():
    for location in ("http://meta/a", "HTTP://meta/a"):
        with pytest.raises(Refused, match="from https to http"):
            peer_values.redirect_target("https://meta/a", location)
    assert peer_values.redirect_target("https://meta/a", "HTTPS://meta/b") == "https://meta/b"


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://meta", "/"),
        ("http://meta?x", "/?x"),
        ("http://u:p@meta:1/a?b/c?d#e", "/a?b/c?d"),
        ("http://meta//a", "//a"),
    ],
)
def test_what_is_asked_for_is_what_stands_behind_the_host(url, asked):
    assert peer_values.target(url) == asked


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost.", "a.localhost", "127.0.0.1", "127.9.9.9", "127.255.0.3", "::1", "::ffff:127.0.0.1"],
)
def test_this_machine_itself_is_known_by_its_names_and_addresses(host):
    assert peer_values.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "meta", "0.0.0.0", "localhost.example", "10.0.0.1", "128.0.0.1", "::2", "notlocalhost"]
)
def test_other_hosts_are_not_this_machine(host):
    assert not peer_values.is_loopback(host)


@given(st.text())
def test_no_text_at_all_is_a_bare_error(text):
    for read in (peer_values.content_length, peer_values.range_start, lambda t: peer_values.wait(t, NOW)):
        with contextlib.suppress(Refused, TryLater):
            read(text)
    with contextlib.suppress(Refused):
        assert peer_values.redirect_target("http://meta/a", text).startswith(("http://", "https://"))
