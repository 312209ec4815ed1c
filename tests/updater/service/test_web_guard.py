"""What a browser's headers tell: whether a page of another site asks, and whether the name in Host is this machine's."""

import socket

import pytest

from updater.service.web_guard import host_problem, own_names, page_problem

OWN = [
    ("", "", "127.0.0.1:2001"),  # curl, Prometheus, the Go peers
    ("", "none", "127.0.0.1:2001"),  # typed by a person
    ("", "same-origin", "meta.example"),
    ("http://127.0.0.1:2001", "", "127.0.0.1:2001"),
    ("http://127.0.0.1:2001", "same-origin", "127.0.0.1:2001"),
    ("http://[::1]:2001", "", "[::1]:2001"),
    ("http://[fe80::1%25eth0]:2001", "", "[FE80::1%25eth0]:2001"),
    ("http://META.example.:2000", "", "meta.EXAMPLE:2000"),
    ("https://meta.example", "", "meta.example"),
    ("https://meta.example", "", "meta.example:443"),
    ("https://meta.example:443", "", "meta.example"),
    ("http://meta.example:80", "", "meta.example."),
    ("https://meta.example:8443", "same-origin", "meta.example"),  # the proxy hands Host on without its port
    ("null", "same-origin", "meta.example"),  # a form of a page with Referrer-Policy: no-referrer
]
OTHERS = [
    ("http://evil.example", "", "127.0.0.1:2001"),
    ("http://evil.example", "cross-site", "127.0.0.1:2001"),
    ("http://evil.example", "same-origin", "127.0.0.1:2001"),
    ("", "cross-site", "127.0.0.1:2001"),
    ("", "Cross-Site", "127.0.0.1:2001"),
    ("", "same-site", "localhost:2001"),  # another program's page on this machine
    ("", "same-origin, cross-site", "localhost:2001"),
    ("", "what", "localhost:2001"),
    ("null", "", "localhost:2001"),
    ("null", "none", "localhost:2001"),
    ("http://localhost:3000", "", "localhost:2001"),
    ("http://localhost", "", "localhost:2001"),
    ("https://localhost:2001, http://evil.example", "", "localhost:2001"),
    ("http://localhost:2001", "", "localhost:2001, evil.example"),
    ("http://localhost:2001", "", ""),
    ("http://user@localhost:2001", "", "localhost:2001"),
    ("http://localhost:2001/", "", "localhost:2001"),
    ("localhost:2001", "", "localhost:2001"),
    ("chrome-extension://abcdef", "", "localhost:2001"),
    ("http://127.0.0.1.evil.example:2001", "", "127.0.0.1:2001"),
]


@pytest.mark.parametrize(("origin", "site", "host"), OWN)
def test_what_no_page_asks_or_a_page_of_this_site_is_allowed(origin, site, host):
    assert page_problem(origin, site, host) == ""


@pytest.mark.parametrize(("origin", "site", "host"), OTHERS)
def test_what_a_page_of_another_site_asks_is_refused(origin, site, host):
    assert "a web page of another site" in page_problem(origin, site, host)


HERE = """127.0.0.1 127.0.0.1:2001 127.9.9.9 10.1.2.3:80 [::1] [::1]:2001 [::ffff:127.0.0.1]:1 [fe80::1%25eth0]:2001
    localhost LocalHost:2001 localhost. localhost:"""
ELSEWHERE = """evil.example evil.example:2001 127.0.0.1.evil.example localhost.evil.example evil-localhost ::1 0.0.0.0:2001
    [::]:2001 [::ffff:0.0.0.0] 127.0.0.1,evil.example localhost@evil.example [::1 localhost:2001/evil.example 2130706433
    0x7f000001 localhost:99999999 \u017f.example \0"""


@pytest.mark.parametrize("host", ["", *HERE.split()])
def test_an_address_and_localhost_are_this_machines(host):
    assert host_problem(host) == ""


@pytest.mark.parametrize("host", [*ELSEWHERE.split(), "127.0.0.1, evil.example", "a" * 5000])
def test_any_other_name_is_none_of_this_machines(host):
    problem = host_problem(host)
    assert "is no name of this machine" in problem
    assert len(problem) < 300


def test_this_hosts_name_and_configured_ones_are_its_own():
    name = socket.gethostname()
    assert host_problem(f"{name.upper()}.:2001") == ""
    assert host_problem("web-1.example:2001", ["Web-1.example"]) == ""
    assert host_problem(f"{name}.evil.example") != ""


def test_the_names_that_the_hosts_file_gives_a_loopback_address_are_its_own(tmp_path):
    file = tmp_path / "hosts"
    file.write_bytes(
        b"127.0.0.1 localhost\n127.0.1.1\tmeta.example Meta # evil.example\n::1 ip6-localhost\n10.0.0.1 other.example\n"
        b"127.0.0.1\nnonsense x.example\n\xff\xfe\n# 127.0.0.1 off.example\n"
    )
    mine = {"localhost", socket.gethostname().lower()}
    assert own_names(file) == mine | {"meta.example", "meta", "ip6-localhost"}
    assert own_names(tmp_path / "none") == {socket.gethostname().lower()}
