"""What an agent says, judged; and which agents are online."""

import json

import pytest

from meta.bridges.elves.online_agents import ONLINE_FOR, OnlineAgents
from meta.bridges.elves.translator import Agent, Info, apps_of, as_report, hostname, judge, parse_apps, render_apps
from meta.bridges.elves.zookeeper.nodes import parse_node, render_node
from updater.wire.heartbeat import Desired, RealAgent, Report, decode_report, render_report

NOW = 1_700_000_000.0


def test_a_beat_is_a_report_of_a_host_whose_apps_are_its_agents():
    judged = judge(Info("CX0001", "127.0.0.1", "0.4.3", '{"testApp":"1.0.1"}'), NOW)
    assert judged.agent == Agent("127.0.0.1", "CX0001", "0.4.3", {"testApp": "1.0.1"}, NOW)
    report = as_report(judged.agent, hostname(judged.asset, judged.ip))
    assert report == Report(
        "CX0001",
        [RealAgent("testApp", "1.0.1", "started", int(NOW))],
        ip="127.0.0.1",
        updater_version="elves-agent 0.4.3",
    )
    again = render_report(decode_report(render_report(report)))
    assert json.loads(again) == json.loads(render_report(report)), "it passes what meta asks of every report"


@pytest.mark.parametrize(
    ("asset", "ip", "name"),
    [
        ("CX0001", "10.0.0.1", "CX0001"),
        ("", "10.0.0.1", "10.0.0.1"),
        ("资产 1", "10.0.0.1", "10.0.0.1"),
        ("../etc", "10.0.0.1", "10.0.0.1"),
        ("", "fe80::1", "fe80-0000-0000-0000-0000-0000-0000-0001"),
        ("", "web-1.example", "web-1.example"),
        ("", "", ""),
        ("-x", ":::", ""),
    ],
)
def test_the_name_of_a_host_is_its_asset_or_else_its_ip(asset, ip, name):
    assert hostname(asset, ip) == name


@pytest.mark.parametrize(
    ("text", "apps"),
    [
        ("", {}),
        ("null", {}),
        ("{}", {}),
        ('{"a":"1"}', {"a": "1"}),
        ('{"a":1}', {"a": "1"}),
        ('{"a":"1","a":"2"}', {"a": "2"}),
        ('{"应用":"1"}', {"应用": "1"}),
    ],
)
def test_apps_texts(text, apps):
    assert parse_apps(text) == (apps, "")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '"a"',
        "7",
        "{",
        '{"a":null}',
        '{"a":{}}',
        '{"a":["1"]}',
        '{"a":true}',
        '{"":"1"}',
        '{"a":""}',
        '{"a":" "}',
        '{"a":"1\\u001b[31m"}',
        '{"a\\n":"1"}',
        '{"a":"\\ud800"}',
        '{"a":NaN}',
        "[" * 30_000,
        '{"a":' * 5_000,
        '{"' + "a" * 257 + '":"1"}',
        "{" + ",".join(f'"a{i}":"1"' for i in range(1001)) + "}",
        "\x00",
    ],
)
def test_a_hostile_apps_text_makes_a_beat_that_is_not_stored(text):
    judged = judge(Info("CX1", "10.0.0.1", "1", text), NOW)
    assert (judged.agent, judged.apps, judged.problem != "") == (None, None, True)
    assert (judged.asset, judged.ip) == ("CX1", "10.0.0.1")


@pytest.mark.parametrize("ip", ["", "  ", "a/b", "x" * 65, "1.2.3.4\n5", "ü", ".", "..", "...", ":", "-_-"])
def test_a_blank_or_hostile_ip_makes_a_beat_that_is_not_stored(ip):
    judged = judge(Info("CX1", ip, "1", "{}"), NOW)
    assert (judged.agent, judged.ip, judged.apps) == (None, "", {})
    assert "ip" in judged.problem


def test_what_may_run_is_what_shall_be_started():
    desired = (Desired("a", "1", cmd="start"), Desired("b", "2", cmd="stop"))
    assert apps_of(desired) == {"a": "1"}
    assert render_apps({"a": "1"}) == '{"data":{"a":"1"}}'


def seen(ip: str, at: float, asset: str = "") -> Agent:
    return Agent(ip, asset, "1", {}, at)


def test_online_is_judged_from_now():
    online = OnlineAgents()
    assert online.hear(seen("10.0.0.1", NOW))
    assert [len(online.find("10.0.0.1", "", NOW + after)) for after in (0, ONLINE_FOR, ONLINE_FOR + 0.1)] == [1, 1, 0]
    assert not online.hear(seen("10.0.0.1", NOW + 60))
    assert online.hear(seen("10.0.0.1", NOW + 60 + ONLINE_FOR + 1)), "it was offline"


def test_find_by_ip_and_asset_and_both_and_neither():
    online = OnlineAgents()
    for ip, asset in (("10.0.0.2", "A"), ("10.0.0.1", "B"), ("10.0.0.3", "A")):
        online.hear(seen(ip, NOW, asset))

    def found(ip: str = "", asset: str = "") -> list[str]:
        return [agent.ip[-1] for agent in online.find(ip, asset, NOW)]

    assert found() == ["1", "2", "3"]
    assert found(asset="A") == ["2", "3"]
    assert found(ip="10.0.0.2") == found("10.0.0.2", "A") == ["2"]
    assert found("10.0.0.2", "B") == found("10.0.0.9") == []


def test_the_latest_beat_wins_whoever_heard_it():
    online = OnlineAgents()
    online.share(seen("10.0.0.1", NOW, "theirs"), NOW)
    online.hear(seen("10.0.0.1", NOW + 1, "ours"))
    online.share(seen("10.0.0.1", NOW, "old"), NOW + 2)
    assert online.find("10.0.0.1", "", NOW + 2)[0].asset == "ours"
    online.share(seen("10.0.0.1", NOW + 2, "new"), NOW + 2)
    assert online.find("10.0.0.1", "", NOW + 2)[0].asset == "new"


def test_a_clock_ahead_of_ours_keeps_no_agent_online_for_ever():
    online = OnlineAgents()
    online.share(seen("10.0.0.1", NOW + 1e9), NOW)
    assert not online.find("10.0.0.1", "", NOW + ONLINE_FOR + 1)


def test_what_another_instance_withdraws_is_gone_unless_we_heard_it():
    online = OnlineAgents()
    online.share(seen("10.0.0.1", NOW), NOW)
    online.hear(seen("10.0.0.2", NOW))
    for ip in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        online.withdraw(ip)
    assert [agent.ip for agent in online.find("", "", NOW)] == ["10.0.0.2"] == [a.ip for a in online.heard_here(NOW)]


def test_memory_is_bounded_and_the_long_silent_are_forgotten():
    online = OnlineAgents(max_agents=2)
    for number in range(3):
        online.hear(seen(f"10.0.0.{number}", NOW))
    online.share(seen("10.0.0.9", NOW), NOW)
    assert online.count(NOW) == 2
    online.hear(seen("10.0.1.1", NOW + 90_000))
    assert [agent.ip for agent in online.find("", "", NOW + 90_000)] == ["10.0.1.1"]
    online.forget_old(NOW + 180_001)
    assert online.count(NOW + 90_000) == 0


def test_a_node_of_zookeeper_is_what_the_java_module_writes():
    agent = Agent("127.0.0.1", "CX0001", "0.4.3", {"testApp": "1.0.1"}, NOW)
    known = b'"agent":{"id":"CX0001","ip":"127.0.0.1","version":"0.4.3","apps":"{\\"testApp\\":\\"1.0.1\\"}"}'
    text = b'{"checkTime":1700000000000,%b}' % known
    assert render_node(agent) == text
    assert parse_node("127.0.0.1", text) == agent
    more = b'"agent":{"apps":"{}","id":"X","ip":"10.0.0.1","setApps":true,"setId":true,"version":"1"}'
    java = b'{%b,"checkTime":1700000000500}' % more
    assert parse_node("10.0.0.1", java) == Agent("10.0.0.1", "X", "1", {}, NOW + 0.5)


@pytest.mark.parametrize(
    "data",
    [None, b"", b"{}", b"[]", b'{"checkTime":"1","agent":{}}', b'{"checkTime":1e400,"agent":{}}', b"[" * 100_000, b"\xff",
     b'{"checkTime":99999999999999999999,"agent":{}}', b'{"checkTime":1,"agent":{"apps":"["}}'],
)  # fmt: skip
def test_a_node_that_cannot_be_used_is_none(data):
    assert parse_node("10.0.0.1", data) is None
