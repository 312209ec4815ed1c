"""What an agent is answered, by mode; and that no answer is empty by mistake."""

import json

import pytest

from meta.bridges.elves.app_table import AppTable, Entry
from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.counters import Numbers
from meta.bridges.elves.heartbeat import Heartbeat, Undecided
from meta.bridges.elves.online_agents import OnlineAgents
from meta.bridges.elves.settings import Settings
from meta.bridges.elves.translator import Info
from meta.bridges.fleet import TableFleet, opened
from meta.hosts.table import HostTable
from meta.records.model import Ban, Override, Record, RecordSet, Release
from meta.records.selectors import Prefix
from meta.settings import Settings as MetaSettings

NOW = 1_700_000_000.0
AGENT = Info("CX0001", "10.0.0.1", "0.4.3", '{"testApp":"1.0.0","own":"7"}')
RECORDS = RecordSet(
    records=(
        Record("testApp", Release("1.0.1"), "http://r/t", overrides=(Override(Prefix("CX9"), Release("2.0.0")),)),
        Record("gone", Release("1.0.0"), "http://r/t", cmd="stop"),
    )
)


class Bridge:
    """A heartbeat with all its state, in memory."""

    def __init__(self, fleet: object = None, **settings: object):
        self.online, self.kept, self.numbers = OnlineAgents(), KeptTable(), Numbers()
        self._heartbeat = Heartbeat(Settings(**settings), self.online, self.kept, fleet, self.numbers)

    def beat(self, info: Info = AGENT, **changed: str) -> dict[str, str]:
        return json.loads(self._heartbeat.beat(info._replace(**changed), "192.0.2.1", NOW))["data"]

    def stored(self) -> list[str]:
        return [agent.ip for agent in self.online.find("", "", NOW)]


class Broken:
    """A meta in trouble."""

    def beat(self, *_: object) -> None:
        raise OSError("disk full")

    resolve = withheld = beat


@pytest.fixture
def table():
    return HostTable(RECORDS)


def names(table: HostTable) -> list[str]:
    return table.names()


def test_by_records_the_apps_that_shall_be_started(table):
    bridge = Bridge(TableFleet(table))
    assert bridge.beat() == {"testApp": "1.0.1"}
    assert bridge.beat(id="CX9001", ip="10.0.0.2") == {"testApp": "2.0.0"}
    assert (names(table), bridge.stored()) == (["CX0001", "CX9001"], ["10.0.0.1", "10.0.0.2"])


def test_an_agent_is_a_host_and_its_apps_are_agents(table):
    Bridge(TableFleet(table)).beat()
    host = table.get("CX0001")
    assert (host.address, host.updater.version) == ("10.0.0.1", "elves-agent 0.4.3")
    assert [reported[:3] for reported, _, _ in host.agents()] == [
        ("testApp", "1.0.0", "started"),
        ("own", "7", "started"),
    ]


@pytest.mark.parametrize("changed", [{"ip": ""}, {"ip": "a/b"}, {"apps": "[]"}])
def test_what_is_not_stored_is_answered_by_its_asset(table, changed):
    bridge = Bridge(TableFleet(table))
    assert bridge.beat(**changed) == {"testApp": "1.0.1"}
    assert (names(table), bridge.stored()) == ([], [])


def test_who_does_not_say_who_he_is_keeps_what_he_has(table):
    assert Bridge(TableFleet(table)).beat(id="", ip="") == {"testApp": "1.0.0", "own": "7"}
    with pytest.raises(Undecided):
        Bridge(TableFleet(table)).beat(id="", ip="", apps="[")


def test_without_any_record_nothing_is_decided():
    bridge = Bridge(TableFleet(HostTable()))
    with pytest.raises(Undecided):
        bridge.beat()
    assert bridge.stored() == ["10.0.0.1"], "it is online all the same"


def test_a_stop_alone_is_a_decision():
    table = HostTable(RecordSet(records=RECORDS.records[1:]))
    assert Bridge(TableFleet(table)).beat() == {}


def test_a_banned_version_is_not_ordered_and_what_is_there_stays():
    banned = RecordSet(records=RECORDS.records, bans=(Ban("testApp", "1.0.1"),))
    assert Bridge(TableFleet(HostTable(banned))).beat() == {"testApp": "1.0.0"}
    assert Bridge(TableFleet(HostTable(banned))).beat(apps="{}") == {}


def test_a_fault_inside_is_never_an_empty_answer():
    with pytest.raises(OSError, match="disk full"):
        Bridge(Broken()).beat()
    with pytest.raises(OSError, match="disk full"):
        Bridge(Broken()).beat(ip="")


def test_mode_simple_answers_everybody_the_same(table):
    bridge = Bridge(TableFleet(table), mode="simple", local_apps={"app1": "1.0.1"})
    assert bridge.beat() == bridge.beat(ip="") == bridge.beat(apps="[") == {"app1": "1.0.1"}
    assert (names(table), bridge.stored()) == (["CX0001"], ["10.0.0.1"])


@pytest.mark.parametrize("fleet", [None, Broken()])
def test_mode_simple_needs_no_records(fleet):
    bridge = Bridge(fleet, mode="simple", local_apps={"app1": "1.0.1"})
    assert (bridge.beat(), bridge.stored()) == ({"app1": "1.0.1"}, ["10.0.0.1"])


def test_mode_supervisor_answers_by_the_table():
    bridge = Bridge(mode="supervisor")
    with pytest.raises(Undecided, match="no app table"):
        bridge.beat()
    mine = frozenset({"10.0.0.1", "10.0.0.2"})
    entries = Entry("a", "1", mine), Entry("b", "1", frozenset({"10.0.0.2"})), Entry("a", "2", mine)
    bridge.kept.put(AppTable(entries), "updateAppInfo")
    assert bridge.beat() == {"a": "2"}
    assert bridge.beat(ip="10.0.0.2") == {"a": "2", "b": "1"}
    assert bridge.beat(ip="10.0.0.3") == {}, "the supervisor allows it nothing"
    assert bridge.beat(ip="") == {"testApp": "1.0.0", "own": "7"}, "nobody can look it up"


def test_the_standalone_fleet_keeps_hosts_and_records_in_its_database(tmp_path):
    records = tmp_path / "records.yaml"
    records.write_text("agents:\n- {name: testApp, version: 1.0.1, tarball: http://r/a}\n")
    settings = MetaSettings(database=f"sqlite:///{tmp_path / 'meta.db'}")
    with opened(settings._replace(records=records)) as fleet:
        assert Bridge(fleet).beat() == {"testApp": "1.0.1"}
    with opened(settings) as fleet:
        assert fleet.resolve("CX0001")[0].version == "1.0.1"
        assert fleet._table.names() == ["CX0001"]
