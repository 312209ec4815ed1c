"""The heartbeat's wire, against what the Go programs were recorded to say."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from updater.wire.heartbeat import (
    Desired,
    Outcome,
    RealAgent,
    Report,
    WireError,
    decode_report,
    render_reply,
    render_report,
)
from updater.wire.limits import MAX_AGENTS, MAX_NOTIFY
from updater.wire.names import hostname_problem
from updater.wire.reply import parse_reply
from updater.wire.text import one_line

WIRE = Path(__file__).parents[2] / "wire"
EXCHANGES = {e["name"]: e for e in json.loads((WIRE / "go-meta.json").read_text())["exchanges"]}
HEARTBEATS = [e for e in EXCHANGES.values() if e["path"] == "/heartbeat" and e["method"] == "POST"]

AGENT = {"name": "agent", "version": "1.0.0", "tarball": "http://meta/tarball", "md5": "", "cmd": "start"}


def parse_report(body):
    """As meta takes it."""
    report = decode_report(body)
    if problem := hostname_problem(report.hostname):
        raise WireError(problem)
    return report


def reply(*agents, **more):
    return json.dumps({"errorMessage": "", "desiredAgents": list(agents), **more}).encode()


@pytest.mark.parametrize("exchange", HEARTBEATS, ids=lambda e: e["name"])
def test_every_recorded_heartbeat_is_taken_or_refused_with_the_words_of_the_go_meta(exchange):
    body = exchange["body"].encode()
    if exchange["status"] == 200:
        assert parse_report(body).hostname == json.loads(body)["hostname"]
    else:
        with pytest.raises(WireError, match=f"^{exchange['reply'].strip()}$"):
            parse_report(body)


def test_our_heartbeat_is_the_one_that_the_go_updater_was_recorded_to_send():
    recorded = (WIRE / "go-updater-heartbeat.http").read_bytes().partition(b"\n\n")[2].strip()
    recorded = recorded or (WIRE / "go-updater-heartbeat.http").read_bytes().partition(b"\r\n\r\n")[2].strip()
    ours = Report("vm", [RealAgent("falcon-agent", "1.0.1", "started", 1795211228)])
    assert render_report(ours) == recorded


def test_additions_to_the_heartbeat_appear_only_when_there_are_any():
    bare = json.loads(render_report(Report("h", [])))
    assert bare == {"hostname": "h", "realAgents": []}
    outcome = Outcome("a", "1", "2", "start", "rolled back", "died", "boom", 5)
    more = json.loads(render_report(Report("h", [], updater_version="0.1.0", outcomes=[outcome])))
    assert more["updaterVersion"] == "0.1.0"
    assert more["outcomes"][0]["from"] == "1"


SEEN = {"name": "a", "version": "1", "status": "started", "timestamp": 7}
ODD = (None, 7, "yes", [], {"a": 1}, -1, 1 << 70)


def told(report):
    return [json.loads(msgspec.json.encode(agent)) for agent in report.real_agents]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("key", ["held", "trial", "waits", "rejected", "attempt"])
def test_an_addition_to_an_agent_that_is_of_another_kind_is_ignored(key, odd):
    kinds = {"held": str, "trial": bool, "waits": str, "rejected": str}
    more = {"held": "ann", "trial": True, "waits": "download", "rejected": "2", "attempt": 3}
    body = {"hostname": "h", "realAgents": [SEEN | more | {key: odd}]}
    is_fitting = odd == 7 if key == "attempt" else isinstance(odd, kinds[key])
    expected = RealAgent(**SEEN, **(more | {key: odd if is_fitting else UNSET}))
    assert told(parse_report(json.dumps(body).encode())) == told(Report(real_agents=[expected]))


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("key", ["ip", "updaterVersion", "outcomes", "look"])
def test_an_addition_to_a_report_that_is_of_another_kind_is_ignored(key, odd):
    done = {"agent": "a", "result": "done", "attempt": 3}
    body = {"hostname": "h", "realAgents": [SEEN | {"trial": False}], "updaterVersion": "1", "outcomes": [done]}
    found = parse_report(json.dumps(body | {key: odd}).encode())
    assert told(found) == [SEEN | {"trial": False}]
    if key != "updaterVersion":
        assert found.updater_version == "1"
    if key != "outcomes":
        assert found.outcomes == [Outcome("a", result="done", attempt=3)]


@pytest.mark.parametrize("notify", [0, 1, 270, 86400])
def test_a_reply_says_for_how_long_a_host_may_park_and_by_which_word_it_is_known(notify):
    body = json.dumps({"desiredAgents": [], "notify": notify}).encode()
    assert parse_reply(body).notify == notify
    assert parse_reply(body).known == hashlib.sha256(body).hexdigest()[:16]


@pytest.mark.parametrize("odd", [None, "yes", "270", [], {"a": 1}, -1, True, 2.5, 1e300], ids=repr)
def test_a_notify_of_another_kind_spoils_no_orders_and_means_that_there_is_none(odd):
    order = {"name": "a", "version": "1", "tarball": "http://m", "md5": "", "cmd": "start"}
    body = {"desiredAgents": [order]}
    reply = parse_reply(json.dumps(body | {"notify": odd}).encode())
    assert ([one.name for one in reply.desired], reply.notify) == (["a"], 0)


def test_a_notify_that_is_missing_means_that_there_is_none_and_a_long_one_a_day():
    assert parse_reply(b'{"desiredAgents": []}').notify == 0
    assert parse_reply(json.dumps({"desiredAgents": [], "notify": 10**30}).encode()).notify == MAX_NOTIFY


def test_one_odd_outcome_spoils_only_itself():
    told = [{"agent": "a", "at": "now"}, {"agent": "b", "attempt": -1}, {"agent": "c"}, "d"]
    body = {"hostname": "h", "realAgents": [], "outcomes": told}
    assert parse_report(json.dumps(body).encode()).outcomes == [Outcome("c")]


@pytest.mark.parametrize("change", [{"version": 1}, {"timestamp": "now"}, {"status": None}])
def test_what_the_go_peers_know_must_be_of_its_kind(change):
    body = {"hostname": "h", "realAgents": [SEEN | {"trial": "odd"} | change]}
    with pytest.raises(WireError):
        parse_report(json.dumps(body).encode())


def test_a_trial_that_is_told_twice_is_refused():
    agent = b'{"name":"a","version":"1","status":"started","timestamp":7,"trial":false,"trial":true}'
    with pytest.raises(WireError, match="given twice"):
        parse_report(b'{"hostname":"h","realAgents":[' + agent + b"]}")


@pytest.mark.parametrize("exchange", [e for e in HEARTBEATS if e["status"] == 200], ids=lambda e: e["name"])
def test_every_recorded_reply_is_understood_and_rendered_as_it_came(exchange):
    parsed = parse_reply(exchange["reply"].encode())
    assert not parsed.refused
    assert json.loads(render_reply(parsed.desired)) == json.loads(exchange["reply"])


@pytest.mark.parametrize("agents", [None, []])
def test_no_desired_agents_is_an_answer(agents):
    assert parse_reply(json.dumps({"errorMessage": "", "desiredAgents": agents}).encode()).desired == ()


def test_sha256_travels_only_when_there_is_one():
    assert b"sha256" not in render_reply([Desired("a", "1", "http://m/t", cmd="start")])
    assert b'"sha256":"ff"' in render_reply([Desired("a", "1", "http://m/t", cmd="start", sha256="ff")])


NO_ANSWERS = {
    "nothing": b"",
    "a page": b"<!doctype html><title>log in</title>",
    "a cut reply": reply(AGENT)[:-9],
    "null": b"null",
    "a list": b"[]",
    "a number": b"3",
    "no desired agents at all": b"{}",
    "another service's JSON": b'{"status": "ok"}',
    "agents of the wrong type": b'{"desiredAgents": {"a": 1}}',
    "an error": b'{"errorMessage": "database is down", "desiredAgents": null}',
    "an error of the wrong type": b'{"errorMessage": 5, "desiredAgents": []}',
    "not UTF-8": b'{"desiredAgents": [], "errorMessage": "\xff"}',
    "UTF-16": reply(AGENT).decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + reply(AGENT),
    "trailing data": reply(AGENT) + b"{}",
    "depth": b'{"desiredAgents": ' + b"[" * 100_000,
    "depth in a field nobody knows": b'{"desiredAgents": [], "x": ' + b"[" * 100_000,
    "too many agents": reply(*[AGENT] * (MAX_AGENTS + 1)),
}


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_what_is_no_usable_answer_is_refused_whole(body):
    with pytest.raises(WireError):
        parse_reply(body)


BAD_ENTRIES = {
    "a name that climbs": ({"name": "../../etc"}, "name"),
    "a name that is an option": ({"name": "-rf"}, "name"),
    "a blank name": ({"name": ""}, "name"),
    "a dot": ({"name": "."}, "name"),
    "our own directory": ({"name": ".updater"}, "name"),
    "a name with a line end": ({"name": "agent\n"}, "name"),
    "a long name": ({"name": "a" * 65}, "name"),
    "a version for the shell": ({"version": "$(id)"}, "version"),
    "a version with a slash": ({"version": "a/b"}, "version"),
    "a blank version": ({"version": ""}, "version"),
    "a version of the wrong type": ({"version": 1}, "version"),
    "an unknown command": ({"cmd": "format"}, "cmd"),
    "a blank command": ({"cmd": ""}, "cmd"),
    "a file": ({"tarball": "file:///etc/shadow"}, "tarball"),
    "no tarball": ({"tarball": ""}, "tarball"),
    "a tarball with a query": ({"tarball": "http://meta/t?x="}, "tarball"),
    "a tarball with a blank": ({"tarball": "http://meta/t t"}, "tarball"),
    "a tarball without a host": ({"tarball": "http:///t"}, "tarball"),
    "a tarball with a bad port": ({"tarball": "http://meta:99999/t"}, "tarball"),
    "a digest of another length": ({"md5": "abc"}, "md5"),
    "a short sha256": ({"sha256": "abc"}, "sha256"),
}


@pytest.mark.parametrize(("change", "key"), BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_a_bad_entry_is_refused_and_spoils_only_itself(change, key):
    parsed = parse_reply(reply(AGENT | change, AGENT | {"name": "other"}))
    assert [d.name for d in parsed.desired] == ["other"]
    [(_, why, _)] = parsed.refused
    assert key in why


def test_words_of_a_newer_meta_are_no_reason_to_refuse_an_order():
    [order] = parse_reply(reply(AGENT | {"leftovers": "later", "unknownStatus": "upgrade"})).desired
    assert (order.leftovers, order.unknown_status) == ("later", "upgrade")


def test_an_agent_listed_twice_is_refused_in_both_places():
    parsed = parse_reply(reply(AGENT, AGENT | {"name": "other"}, AGENT | {"version": "2"}))
    assert [d.name for d in parsed.desired] == ["other"]
    assert parsed.refused == (("agent", "listed more than once", ""),)
    assert parse_reply(reply(AGENT, AGENT)).refused == (("agent", "listed more than once", AGENT["version"]),)


def test_a_broken_twin_spoils_its_agent_too():
    parsed = parse_reply(reply(AGENT, AGENT | {"version": 5}))
    assert parsed.desired == ()
    assert [(one.name, one.version) for one in parsed.refused] == [("agent", "")]


def test_stop_needs_no_version_and_no_tarball():
    parsed = parse_reply(reply({"name": "agent", "cmd": "stop"}))
    assert [(d.name, d.cmd) for d in parsed.desired] == [("agent", "stop")]


HOSTILE_REPORTS = {
    "a lone surrogate": b'{"hostname": "\\ud800"}',
    "a huge number": b'{"hostname": "h", "realAgents": [{"timestamp": 18446744073709551616}]}',
    "5,000 digits": b'{"hostname": "h", "realAgents": [{"timestamp": ' + b"9" * 5000 + b"}]}",
    "not a number": b'{"hostname": "h", "realAgents": [{"timestamp": NaN}]}',
    "infinity": b'{"hostname": "h", "realAgents": [{"timestamp": 1e400}]}',
    "depth": b"[" * 100_000,
    "depth in a field nobody knows": b'{"hostname": "h", "x": ' + b'{"x":' * 100_000,
    "a hostname that forges a line": b'{"hostname": "h\\nINFO all is well"}',
    "a NUL": b'{"hostname": "h\\u0000"}',
    "markup": b'{"hostname": "<img src=x>"}',
    "a path": b'{"hostname": "../../etc"}',
    "a long hostname": b'{"hostname": "' + b"a" * 65536 + b'"}',
    "a blank": b" ",
    "latin-1": '{"hostname": "hé"}'.encode("latin-1"),
    "agents that are no list": b'{"hostname": "h", "realAgents": {}}',
    "a null agent": b'{"hostname": "h", "realAgents": [null]}',
}


@pytest.mark.parametrize("body", HOSTILE_REPORTS.values(), ids=HOSTILE_REPORTS.keys())
def test_hostile_heartbeats_are_refused(body):
    with pytest.raises(WireError):
        parse_report(body)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_raise_anything_else(body):
    for parse in (parse_reply, parse_report):
        try:
            parse(body)
        except WireError as e:
            assert str(e)


@given(st.text(max_size=50))
def test_one_line_is_one_line(text):
    line = one_line(text, 20)
    assert len(line) <= 20
    assert line == line.strip()
    assert line.isprintable()


def test_hashes_of_machine_and_boot_are_taken_and_odd_ones_are_none():
    body = render_report(Report("h", [], machine="0123456789abcdef", boot="f" * 64))
    assert (parse_report(body).machine, parse_report(body).boot) == ("0123456789abcdef", "f" * 64)
    for odd in (5, None, [], {"a": "b"}, "", "0123456789ABCDEF", "x" * 16, "0" * 65, True):
        report = parse_report(
            json.dumps({"hostname": "h", "realAgents": [], "machine": odd, "boot": "0" * 16}).encode()
        )
        assert (report.machine, report.boot) == (msgspec.UNSET, "0" * 16), odd
    assert "machine" not in json.loads(render_report(Report("h", [])))


def test_a_hash_that_is_there_twice_is_a_body_that_is_refused():
    with pytest.raises(WireError, match="machine"):
        parse_report(
            b'{"hostname": "h", "realAgents": [], "machine": "0123456789abcdef", "machine": "0123456789abcdee"}'
        )
