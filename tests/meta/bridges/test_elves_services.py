"""What elves' other modules ask: answers, addressing, tables, and the bodies that nobody should send."""

import json
import time
import tracemalloc

import pytest

from meta.bridges.elves.app_table import AppTable, BadTable, Entry, parse_table, render_table
from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.online_agents import OnlineAgents
from meta.bridges.elves.rabbitmq.messages import Dropped, Request, parse
from meta.bridges.elves.rabbitmq.services import Reply, Services
from meta.bridges.elves.rabbitmq.supervisor_poll import Asking
from meta.bridges.elves.rate_limited_log import AT_MOST
from meta.bridges.elves.translator import Agent

NOW = 1_700_000_000.0
LOCAL = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW))
TABLE = [{"app": "appTest", "version": "1.0.0", "agentList": ["10.0.0.1", "10.0.0.2"]}]


@pytest.fixture
def online():
    online = OnlineAgents()
    for number in range(1, 6):
        online.hear(Agent(f"10.0.0.{number}", f"CX{number % 2}", "0.4.3", {"testApp": "1.0.1"}, NOW))
    return online


@pytest.fixture
def services(online):
    return Services(online, KeptTable())


def message(service: str, body: object = None, mqtype: str = "call") -> bytes:
    return json.dumps({"mqkey": f"cron.heartbeat.{service}", "mqtype": mqtype, "mqbody": body or {}}).encode()


def ask(services: Services, service: str, body: object = None, now: float = NOW) -> dict:
    reply = services.handle(message(service, body), "waiting", now)
    assert (reply.to, reply.is_done) == ("waiting", True)
    answer = json.loads(reply.data)
    assert answer | {"mqbody": None} == {"mqkey": "heartbeat.cron", "mqtype": "cast", "mqflag": "cast", "mqbody": None}
    return answer["mqbody"]


def test_agent_info(services):
    assert ask(services, "agentInfo", {"ip": "10.0.0.1"}) == {
        "flag": "true",
        "error": "",
        "result": {"ip": "10.0.0.1", "asset": "CX1", "last_hb_time": LOCAL, "apps": {"testApp": "1.0.1"}},
    }


@pytest.mark.parametrize("body", [{"ip": "10.9.9.9"}, {"ip": ""}, {}, {"ip": None}, {"ip": "10.0.0.1", "asset": "CX0"}])
def test_agent_info_of_nobody(services, body):
    nobody = {"flag": "false", "error": "[414.1]Agent Info Not Found", "result": {}}
    assert ask(services, "agentInfo", body) == nobody


def test_agent_info_of_one_that_is_silent_for_ten_minutes(services):
    assert ask(services, "agentInfo", {"ip": "10.0.0.1"}, NOW + 600)["flag"] == "true"
    assert ask(services, "agentInfo", {"ip": "10.0.0.1"}, NOW + 601)["flag"] == "false"


def test_agent_info_by_asset_alone(services):
    assert ask(services, "agentInfo", {"asset": "CX0"})["result"]["ip"] == "10.0.0.2"


def test_agent_info_of_an_asset_that_has_two_ips_is_its_latest_beat(services, online):
    online.hear(Agent("10.0.0.4", "CX0", "0.4.3", {}, NOW + 1))
    assert ask(services, "agentInfo", {"asset": "CX0"}, NOW + 2)["result"]["ip"] == "10.0.0.4"
    online.hear(Agent("10.0.0.2", "CX0", "0.4.3", {}, NOW + 2))
    assert ask(services, "agentInfo", {"asset": "CX0"}, NOW + 2)["result"]["ip"] == "10.0.0.2"


def test_agent_info_in_the_second_documents_form(online):
    services = Services(online, KeptTable(), agent_info_list=True)
    (found,) = ask(services, "agentInfo", {"ip": "10.0.0.1", "asset": "CX1"})["result"]
    assert found == {"ip": "10.0.0.1", "asset": "CX1", "last_hb_time": LOCAL, "apps": {"testApp": "1.0.1"}}
    assert ask(services, "agentInfo", {"ip": "10.9.9.9"})["result"] == []
    assert ask(services, "agentInfo", {"ip": []}) == {"flag": "false", "error": "[400]ip is no text", "result": []}


@pytest.mark.parametrize("ip", [{}, [], ["10.0.0.1"], True, {"ip": "10.0.0.1"}])
def test_a_request_whose_ip_is_no_text_is_answered_with_flag_false(services, ip):
    error = {"flag": "false", "error": "[400]ip is no text"}
    assert ask(services, "agentInfo", {"ip": ip}) == error | {"result": {}}
    assert ask(services, "agentList", {"ip": ip}) == error | {"count": 0, "result": []}
    assert ask(services, "agentInfo", {"asset": ip})["flag"] == "false"


@pytest.mark.parametrize(
    ("body", "count", "ips"),
    [
        ({}, 5, "12345"),
        ({"ip": "", "asset": ""}, 5, "12345"),
        ({"ip": "", "id": None}, 5, "12345"),
        ({"asset": "CX0"}, 2, "24"),
        ({"id": "CX0"}, 2, "24"),
        ({"asset": "", "id": "CX0"}, 2, "24"),
        ({"ip": "10.0.0.3"}, 1, "3"),
        ({"ip": "10.0.0.3", "id": "CX0"}, 0, ""),
        ({"pagesize": 2, "pagenumber": 1}, 5, "12"),
        ({"pagesize": 2, "pagenumber": 3}, 5, "5"),
        ({"pagesize": "2", "pagenumber": "2"}, 5, "34"),
        ({"pagesize": 2, "pagenumber": 4}, 5, ""),
        ({"pagesize": 2}, 5, "12"),
        ({"pagesize": 2, "pagenumber": -1}, 5, "12"),
        ({"pagesize": 0, "pagenumber": 3}, 5, "12345"),
        ({"pagesize": "all"}, 5, "12345"),
        ({"pagesize": 10**30}, 5, "12345"),
        ({"pagesize": [1]}, 5, "12345"),
        ({"pagesize": 2.0, "pagenumber": 2.0}, 5, "34"),
        ({"pagesize": "2.0", "pagenumber": "3.0"}, 5, "5"),
        ({"pagesize": 2.5}, 5, "12345"),
        ({"pagesize": 2, "pagenumber": 10**12}, 5, ""),
        ({"pagesize": 2, "pagenumber": "9" * 30}, 5, ""),
        ({"pagesize": 2, "pagenumber": 1e300}, 5, ""),
        ({"pagesize": 10**18, "pagenumber": 10**18}, 5, ""),
        ({"pagesize": "nan", "pagenumber": "inf"}, 5, "12345"),
        ({"pagesize": 2, "pagenumber": "-inf"}, 5, "12"),
    ],
)
def test_agent_list(services, body, count, ips):
    answer = ask(services, "agentList", body)
    assert (answer["count"], "".join(agent["ip"][-1] for agent in answer["result"])) == (count, ips)


@pytest.mark.parametrize(
    ("mqtype", "reply_to", "to", "by_id"),
    [
        ("call", "amq.gen-1", "amq.gen-1", False),
        ("call.CCCEF718FCC41307", "", "CCCEF718FCC41307", True),
        ("call.CCCEF718FCC41307", "amq.gen-1", "amq.gen-1", False),
        (" call ", "q", "q", False),
    ],
)
def test_both_forms_of_addressing(services, mqtype, reply_to, to, by_id):
    reply = services.handle(message("agentList", mqtype=mqtype), reply_to, NOW)
    assert (reply.to, reply.by_id) == (to, by_id)


def test_a_body_that_is_written_as_a_text_is_taken_as_java_does():
    data = json.dumps({"mqkey": "a.heartbeat.agentInfo", "mqtype": "call", "mqbody": '{"ip":"1"}'}).encode()
    request = parse(data, "q")
    assert request._replace(body={k: bytes(v) for k, v in request.body.items()}) == Request(
        "a", "agentInfo", "q", False, {"ip": b'"1"'}
    )


def test_update_app_info_replaces_the_whole_table(online, tmp_path):
    kept = KeptTable(tmp_path / "var" / "table.json")
    services = Services(online, kept)
    first = services.handle(message("updateAppInfo", {"result": TABLE}, "cast"), "", NOW)
    assert (first.to, first.is_done) == ("", True)
    assert kept.table.apps_for("10.0.0.2") == {"appTest": "1.0.0"}
    assert KeptTable(tmp_path / "var" / "table.json").table == kept.table, "a restart goes on with it"
    services.handle(message("updateAppInfo", {"result": []}, "cast"), "", NOW)
    assert kept.table == AppTable()


def test_what_cannot_be_kept_is_in_force_and_not_acknowledged(online, tmp_path):
    (tmp_path / "var").write_text("a file in the way")
    kept = KeptTable(tmp_path / "var" / "table.json")
    reply = Services(online, kept).handle(message("updateAppInfo", {"result": TABLE}, "cast"), "", NOW)
    assert (reply.is_done, kept.table.apps_for("10.0.0.1")) == (False, {"appTest": "1.0.0"})
    (tmp_path / "var").unlink()
    assert kept.save()
    assert KeptTable(tmp_path / "var" / "table.json").table == kept.table


def test_a_kept_file_that_is_broken_is_no_table(tmp_path):
    (tmp_path / "t").write_bytes(b'[{"app":')
    assert KeptTable(tmp_path / "t").table is None


@pytest.mark.parametrize(
    ("result", "entries"),
    [
        (b"[]", ()),
        (b'[{"app":"a","version":1.10,"agentList":["1"]}]', (Entry("a", "1.10", frozenset("1")),)),
        (b'[{"app":"a","version":2,"agentList":[]}]', (Entry("a", "2", frozenset()),)),
        (b'"[{\\"app\\":\\"a\\",\\"version\\":\\"1\\",\\"agentList\\":[]}]"', (Entry("a", "1", frozenset()),)),
        (b'[{"app":"a","version":"1","agentList":"[\\"1\\"]","more":{}}]', (Entry("a", "1", frozenset("1")),)),
    ],
)
def test_tables(result, entries):
    assert parse_table(result) == AppTable(entries)
    assert parse_table(render_table(AppTable(entries))) == AppTable(entries)


BAD_TABLES = [
    b"null", b"{}", b"7", b"[7]", b"[null]", b'"x"', b'[{"app":"a"}]', b'[{"app":"a","version":"1"}]',
    b'[{"app":7,"version":"1","agentList":[]}]', b'[{"app":"","version":"1","agentList":[]}]',
    b'[{"app":"a","version":null,"agentList":[]}]', b'[{"app":"a","version":{},"agentList":[]}]',
    b'[{"app":"a","version":"","agentList":[]}]', b'[{"app":"a","version":"1","agentList":[7]}]',
    b'[{"app":"a","version":"1","agentList":"x"}]', b'[{"app":"a\\u0000","version":"1","agentList":[]}]',
    b'[{"app":"a","version":"1","agentList":{"1":"1"}}]', b"[" * 200_000, b"[" + b",".join(
        [b'{"app":"a","version":"1","agentList":[]}'] * 10_001) + b"]",
]  # fmt: skip


@pytest.mark.parametrize("result", BAD_TABLES, ids=range(len(BAD_TABLES)))
def test_a_table_is_taken_whole_or_not_at_all(services, result):
    with pytest.raises(BadTable):
        parse_table(result)
    data = b'{"mqkey":"supervisor.heartbeat.updateAppInfo","mqtype":"cast","mqbody":{"result":%b}}' % result
    with pytest.raises(Dropped):
        services.handle(data, "", NOW)


GOOD = {"mqkey": "a.heartbeat.agentInfo", "mqtype": "call", "mqbody": {"ip": "1"}}
HOSTILE = {
    "nothing": b"",
    "not JSON": b"hello",
    "not UTF-8": b"\xff\xfe",
    "UTF-16": json.dumps(GOOD).encode("utf-16"),
    "half": json.dumps(GOOD).encode()[:-5],
    "two": json.dumps(GOOD).encode() * 2,
    "list": b"[]",
    "number": b"7",
    "text": b'"call"',
    "null": b"null",
    "no mqkey": b'{"mqtype":"call"}',
    "no mqtype": b'{"mqkey":"a.heartbeat.agentInfo"}',
    "mqkey null": b'{"mqkey":null,"mqtype":"call"}',
    "mqkey a list": b'{"mqkey":["a"],"mqtype":"call"}',
    "mqkey of two parts": b'{"mqkey":"a.heartbeat","mqtype":"call"}',
    "mqkey of four parts": b'{"mqkey":"a.heartbeat.agentInfo.x","mqtype":"call"}',
    "mqkey of blank parts": b'{"mqkey":"..","mqtype":"call"}',
    "unknown service": b'{"mqkey":"a.heartbeat.reboot","mqtype":"call"}',
    "a method of ours": b'{"mqkey":"a.heartbeat._agent_info","mqtype":"call"}',
    "a method of Python": b'{"mqkey":"a.heartbeat.__class__","mqtype":"call"}',
    "mqtype unknown": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"shout"}',
    "mqtype callback": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"callback"}',
    "mqtype without ID": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call."}',
    "an ID too long": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call.%b"}' % (b"x" * 300),
    "mqbody a list": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call","mqbody":[]}',
    "mqbody a text": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call","mqbody":"x"}',
    "a cast that asks": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"cast"}',
    "a call that waits nowhere": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call"}',
    "update without result": b'{"mqkey":"a.heartbeat.updateAppInfo","mqtype":"cast","mqbody":{}}',
    "deep lists": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call","mqbody":' + b"[" * 1_000_000,
    "deep objects": b'{"mqkey":"a.heartbeat.agentInfo","mqtype":"call","mqbody":' + b'{"a":' * 500_000,
    "a lone surrogate": b'{"mqkey":"a.heartbeat.\\ud800","mqtype":"call"}',
    "NUL bytes": bytes(1000),
    "10 MB of blanks": b" " * 10_000_000,
    "10 MB of JSON": json.dumps(GOOD | {"more": "x" * 10_000_000}).encode(),
    "10 MB of list": b'{"mqkey":"a.heartbeat.updateAppInfo","mqtype":"cast","mqbody":{"result":[%b]}}' % (b"1," * 5_000_000),
    "8 MB of numbers": b'{"mqkey":"a.heartbeat.updateAppInfo","mqtype":"cast","mqbody":{"result":[%b1]}}' % (b"1," * 4_000_000),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bodies_are_dropped_soon_and_cheaply(services, case):
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(Dropped):
            services.handle(HOSTILE[case], "", NOW)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 2


def test_a_fault_of_ours_is_told_to_the_caller():
    broken = Services(None, KeptTable())  # whatever the fault is
    reply = broken.handle(message("agentInfo", {"ip": "10.0.0.1"}), "q", NOW)
    assert json.loads(reply.data)["mqbody"] == {"flag": "false", "error": "[500]Internal Error", "result": {}}
    assert isinstance(reply, Reply)


def test_faults_of_ours_that_a_sender_causes_again_and_again_do_not_fill_the_log(caplog):
    broken = Services(None, KeptTable())
    for _ in range(200):
        broken.handle(message("agentInfo", {"ip": "10.0.0.1"}), "q", NOW)
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [("ERROR", True)] * AT_MOST


def test_tables_that_are_always_new_do_not_fill_the_log(services, caplog):
    caplog.set_level("INFO")
    for number in range(200):
        table = [{**TABLE[0], "version": str(number)}] if number % 2 else []
        services.handle(message("updateAppInfo", {"result": table}, "cast"), "", NOW)
    assert caplog.messages[:3] == [
        "updateAppInfo: the app table has 0 entries",
        "the app table is empty now: every agent will remove all its apps",
        "updateAppInfo: the app table has 1 entry",
    ]
    assert len(caplog.messages) <= 2 * AT_MOST


def asked(kept: KeptTable, every: float = 60) -> tuple[Asking, str]:
    asking = Asking(kept, every)
    return asking, asking.due(100)


def reply(**body: object) -> bytes:
    return json.dumps({"mqkey": "supervisor.heartbeat", "mqtype": "cast", "mqbody": body}).encode()


def test_the_supervisor_is_asked_at_once_and_then_each_minute():
    kept = KeptTable()
    asking, question = asked(kept)
    assert question and not asking.due(101)
    asking.answered(question, reply(flag="true", result=TABLE))
    assert kept.table.apps_for("10.0.0.1") == {"appTest": "1.0.0"}
    assert not asking.due(159) and asking.due(160)


def test_a_supervisor_that_does_not_answer_in_five_seconds_is_asked_again_later():
    kept = KeptTable()
    asking, question = asked(kept)
    assert not asking.due(105), "it is given up, and asked again when it is time"
    asking.answered(question, reply(result=TABLE))
    assert kept.table is None, "too late"
    assert asking.due(160)
    asking.reconnected()
    assert asking.due(160.1), "after a reconnection at once"


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"mqbody":null}', b'{"mqbody":[]}', reply(), reply(result=None), reply(result={}), reply(result="x"),
     reply(flag="false", error="[500]x", result=[]), reply(flag="false", result=TABLE), b"x" * 10_000_000,
     *(b'{"mqbody":{"result":%b}}' % bad for bad in BAD_TABLES)],
)  # fmt: skip
def test_a_failed_call_keeps_the_last_table(data):
    kept = KeptTable()
    kept.put(parse_table(json.dumps(TABLE).encode()), "updateAppInfo")
    asking, question = asked(kept)
    asking.answered(question, data)
    assert kept.table.apps_for("10.0.0.1") == {"appTest": "1.0.0"}
    assert not asking.due(159) and asking.due(160)


def test_an_answer_to_another_question_changes_nothing():
    kept = KeptTable()
    asking, question = asked(kept)
    asking.answered("another", reply(result=TABLE))
    assert kept.table is None
    asking.answered(question, reply(result=TABLE))
    assert kept.table


def test_answers_that_were_not_asked_for_do_not_fill_the_log(caplog):
    asking, _ = asked(KeptTable())
    for _ in range(200):
        asking.answered("another", b"")
    assert len(caplog.messages) == AT_MOST
