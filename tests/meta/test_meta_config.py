"""What `meta serve` is told, and by whom."""

import json
import logging
import sys
from pathlib import Path

import pytest

from meta.config import DEFAULT_DATABASE, parse_listen, settle
from meta.errors import Misconfigured
from meta.load import load
from meta.logs import OneLine


@pytest.fixture
def legacy(tmp_path):
    file = tmp_path / "etc" / "cfg.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"tarballDir": "./tb", "http": {"listen": ":2100"}, "agents": []}))
    return load(file)


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text("agents: []")
    return load(file)


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:2000", ("127.0.0.1", 2000)),
        (":2000", ("", 2000)),
        ("meta.example:0", ("meta.example", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_where_to_listen(listen, expected):
    assert parse_listen(listen) == expected


@pytest.mark.parametrize(
    "listen", ["", "2000", "host", "host:", "host:x", "host:65536", "::1:2000", "http://host:1", "a b:1", "h:１"]
)
def test_what_is_no_place_to_listen(listen):
    with pytest.raises(Misconfigured, match="HOST:PORT"):
        parse_listen(listen)


def test_defaults(own):
    settings = settle(own, None, None, None)
    assert (settings.host, settings.port, settings.database, settings.tarballs) == (
        "127.0.0.1",
        2000,
        DEFAULT_DATABASE,
        None,
    )


def test_a_legacy_file_says_where_it_listened(legacy):
    assert settle(legacy, None, None, None)[1:3] == ("", 2100)


def test_an_option_wins_over_a_legacy_file(legacy, tmp_path):
    settings = settle(legacy, "10.0.0.1:1", None, tmp_path)
    assert (settings.host, settings.port, settings.tarballs) == ("10.0.0.1", 1, tmp_path)


def test_legacy_tarballs_are_looked_for_beside_the_file_then_where_meta_was_started(legacy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settle(legacy, None, None, None).tarballs is None
    (tmp_path / "tb").mkdir()
    assert settle(legacy, None, None, None).tarballs == Path("tb")
    (tmp_path / "etc/tb").mkdir()
    assert settle(legacy, None, None, None).tarballs == tmp_path / "etc/tb"


def test_a_tarball_directory_that_is_not_there_is_refused(own, tmp_path):
    with pytest.raises(Misconfigured, match="nowhere is not there"):
        settle(own, None, None, tmp_path / "nowhere")


def test_nothing_from_outside_can_look_like_an_event_of_the_log():
    try:
        raise ValueError("bad\nINFO meta: forged")
    except ValueError:
        record = logging.LogRecord(
            "meta", logging.ERROR, "", 0, "from %s", ("x\r\nINFO meta: forged\u2028",), sys.exc_info()
        )
    lines = OneLine().format(record).splitlines()
    assert lines[0].split()[1:] == ["ERROR", "meta:", "from", "x", "INFO", "meta:", "forged"]
    assert all(line.startswith("    ") for line in lines[1:])
