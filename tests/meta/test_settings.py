"""What `meta serve` is told, and by whom."""

import json
import logging
import re
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from meta.errors import Misconfigured
from meta.logs import OneLine
from meta.records.files.load import load
from meta.settings import (
    DEFAULT_DATABASE,
    GONE,
    GONE_VARIABLES,
    KEYS,
    Settings,
    parse_listen,
    read,
    settle,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def legacy(tmp_path):
    file = tmp_path / "etc" / "cfg.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"tarballDir": "./tb", "http": {"listen": ":2100"}, "agents": []}))
    return load(file)


def test_what_is_no_place_to_listen_is_misconfigured():
    assert parse_listen(":2000") == ("", 2000)
    with pytest.raises(Misconfigured, match=r"cannot listen: .* HOST:PORT"):
        parse_listen("2000")


def test_defaults():
    assert settle({}) == Settings("127.0.0.1", 2000, DEFAULT_DATABASE)


def test_a_legacy_file_says_where_it_listened(legacy):
    assert settle({}, legacy)[:2] == ("", 2100)


def test_an_option_wins_over_a_legacy_file(legacy, tmp_path):
    settings = settle({"listen": "10.0.0.1:1", "tarballs": tmp_path}, legacy)
    assert (settings.host, settings.port, settings.tarballs) == ("10.0.0.1", 1, tmp_path)


def test_legacy_tarballs_are_looked_for_beside_the_file_then_where_meta_was_started(legacy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settle({}, legacy).tarballs is None
    (tmp_path / "tb").mkdir()
    assert settle({}, legacy).tarballs == Path("tb")
    (tmp_path / "etc/tb").mkdir()
    assert settle({}, legacy).tarballs == tmp_path / "etc/tb"


def test_a_tarball_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="nowhere does not exist"):
        settle({"tarballs": tmp_path / "nowhere"})


def test_a_host_cannot_be_lost_before_it_is_late():
    with pytest.raises(Misconfigured, match="lostAfter must not be less than lateAfter"):
        settle({"late_after": 60.0, "lost_after": 59.0})


# --- the configuration file ---


def config(tmp_path, text):
    file = tmp_path / "meta.yaml"
    file.write_text(text)
    return file


def test_the_example_shows_every_key_with_its_default():
    example = ROOT / "meta.example.yaml"
    told = settle(read(example))
    assert told == Settings()
    assert set(re.findall(r"^(?:# )?([a-zA-Z]+): ", example.read_text(), re.MULTILINE)) == set(KEYS)


def test_every_key_is_read(tmp_path):
    text = """listen: 0.0.0.0:2100
database: postgresql://meta@db.example/meta
records: cfg.json
tarballs: /srv/tarballs
logLevel: debug
logFormat: json
anonymousHosts: false
trustedProxies: [127.0.0.1, 10.0.0.0/8]
newFor: 90
lateAfter: 5m
lostAfter: 2h
retireAfter: 7d
forgetAfter: 0
maxHosts: 1000
maxTarball: 1048576
maxConnections: 100
maxConnectionsOfOne: 10
downloadRate: 1000000
notifyWait: 4m
wakeRate: 500
maxParked: 1000
"""
    assert read(config(tmp_path, text)) == {
        "listen": "0.0.0.0:2100",
        "database": "postgresql://meta@db.example/meta",
        "records": tmp_path / "cfg.json",
        "tarballs": Path("/srv/tarballs"),
        "log_level": "debug",
        "log_format": "json",
        "anonymous_hosts": False,
        "trusted_proxies": (ip_network("127.0.0.1"), ip_network("10.0.0.0/8")),
        "new_for": 90,
        "late_after": 300,
        "lost_after": 7200,
        "retire_after": 604800,
        "forget_after": 0,
        "max_hosts": 1000,
        "max_tarball": 1 << 20,
        "max_connections": 100,
        "max_connections_of_one": 10,
        "download_rate": 1_000_000,
        "notify_wait": 240,
        "wake_rate": 500,
        "max_parked": 1000,
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "listen:\ntarballs: ~\n"])
def test_what_is_not_said_is_the_default(tmp_path, text):
    assert read(config(tmp_path, text)) == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("lateafter: 5m", "did you mean lateAfter?"),
        ("lateAfter: soon", "must be seconds, or a number with s, m, h, d or w"),
        ("maxHosts: -1", "must be a whole number"),
        ("anonymousHosts: maybe", "must be one of true, false"),
        ("notifyWait: 2d", "must be from 1 to 86,400 seconds, or 0"),
        ("wakeRate: 0", "must be at least 1"),
        ("logLevel: loud", "must be one of debug"),
        ("trustedProxies: [10.0.0.1/8]", "no network like 10.0.0.0/8"),
        ("listen: [a]", "must be text"),
        ("listen: a\nlisten: b", "given twice"),
        ("just words", "must be a mapping"),
        ("a: {", "not YAML"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_line(tmp_path, line, why):
    with pytest.raises(Misconfigured) as refused:
        read(config(tmp_path, f"newFor: 1h\n{line}\n" if "words" not in line else line))
    assert why in str(refused.value)
    assert str(tmp_path / "meta.yaml") in str(refused.value)


def test_a_key_that_has_gone_away_is_warned_of_with_what_takes_its_place_and_changes_nothing(tmp_path):
    gone = {"former": "say lateAfter instead"}
    told = read(config(tmp_path, "newFor: 1h\nformer: [what, it, took]\n"), gone)
    said = f"{tmp_path}/meta.yaml:2: former: is no longer a setting and is ignored: say lateAfter instead"
    assert told == {"new_for": 3600, "warnings": (said,)}
    assert settle(told).warnings == (said,)
    with pytest.raises(Misconfigured, match="unknown key"):
        read(config(tmp_path, "former: x"), {})


def test_what_has_gone_away_is_no_setting_and_says_what_takes_its_place():
    assert GONE.keys() & KEYS.keys() == set()
    assert all(name.startswith("META_") for name in GONE_VARIABLES)
    assert all([*GONE.values(), *GONE_VARIABLES.values()])


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(Misconfigured, match=r"meta\.yaml cannot be read: No such file"):
        read(tmp_path / "meta.yaml")


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
