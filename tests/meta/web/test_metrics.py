"""What Prometheus is told."""

import time
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meta.edits import operations
from meta.records.history import Edit
from meta.records.model import Record, Release
from meta.service import Service
from meta.settings import Settings
from meta.store import Store
from meta.web import metrics
from meta.web.metrics import MAX_SERIES
from updater.wire.heartbeat import VERSION, Outcome, RealAgent, Report


@pytest.fixture
def service(tmp_path):
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as store:
        store.upgrade()
        service = Service(store, Settings())
        service.start()
        yield service
        service.close(10)


def told(service):
    """{(name, *values of its labels in the order of their names): value}"""
    families = text_string_to_metric_families(metrics.render(service, time.time()).decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def beat(service, name, *agents):
    service.table.beat(Report(name, list(agents)), "10.0.0.1", time.time())


def test_an_empty_meta_has_all_its_metrics(service):
    found = told(service)
    assert found["meta_info", VERSION] == 1
    assert found["meta_ready",] == 1
    assert found["meta_records_revision",] == 0
    assert found["meta_heartbeat_seconds_count",] == 0
    assert {state: found["meta_hosts", state] for state in ("new", "ok", "late", "lost", "retired")} == {
        "new": 0,
        "ok": 0,
        "late": 0,
        "lost": 0,
        "retired": 0,
    }
    assert found["meta_flush_lag_seconds",] < 60


def test_hosts_are_told_by_state_by_what_they_run_and_by_drift(service):
    service.editor.apply(
        Edit(time.time(), "ann", "", "set"),
        lambda records: operations.apply(records, [Record("a", Release("2"), "http://r")]),
    )
    beat(service, "h1", RealAgent("a", "1", "started", 1))
    beat(service, "h2", RealAgent("a", "2", "started", 1))
    service.table.retire("h2", time.time())
    found = told(service)
    assert (found["meta_hosts", "new"], found["meta_hosts", "retired"]) == (1, 1)
    assert found["meta_agent_hosts", "a", "started", "1"] == 1
    assert ("meta_agent_hosts", "a", "started", "2") not in found
    assert found["meta_drift_hosts", "a", "2"] == 1
    assert found["meta_records_revision",] == 1


def test_beats_are_told_by_status_and_by_time(service):
    service.beats.note(200, 0.0002)
    service.beats.note(200, 0.02)
    service.beats.note(400, 7.0)
    found = told(service)
    assert (found["meta_heartbeats_total", "200"], found["meta_heartbeats_total", "400"]) == (2, 1)
    assert [
        found["meta_heartbeat_seconds_bucket", bound] for bound in ("0.0001", "0.00025", "0.025", "1.0", "+Inf")
    ] == [
        0,
        1,
        2,
        2,
        3,
    ]
    assert found["meta_heartbeat_seconds_count",] == 3
    assert found["meta_heartbeat_seconds_sum",] == pytest.approx(7.0202)


def test_hosts_that_invent_statuses_do_not_push_out_what_many_have(service):
    for number in range(MAX_SERIES + 50):
        beat(service, f"odd{number}", RealAgent("a", "1", f'status {number:05}\n\\"', number))
    for name in ("h1", "h2"):
        beat(service, name, RealAgent("z", "9", "started", 1))
    found = told(service)
    assert found["meta_agent_hosts", "z", "started", "9"] == 2
    assert sum(key[0] == "meta_agent_hosts" for key in found) == MAX_SERIES + 1
    assert found["meta_agent_hosts", "other", "other", "other"] == 51
    assert sum(hosts for key, hosts in found.items() if key[0] == "meta_agent_hosts") == MAX_SERIES + 52  # all reports


def test_trials_and_failures_are_told_by_agent_and_version(service):
    record = Record("a", Release("2"), "http://r")
    service.editor.apply(Edit(time.time(), "ann", "", "set"), lambda before: operations.put_record(before, record))
    beat(service, "h1", RealAgent("a", "2", "started", 7, trial=True))
    failed = Outcome("a", "1", "2", "watch", "rolled back", "died", "", 5)
    report = Report("h2", [RealAgent("a", "1", "started", 7, trial=False, rejected="2")], outcomes=[failed])
    service.table.beat(report, "10.0.0.1", time.time())
    found = told(service)
    assert found["meta_trial_hosts", "a", "2"] == 1
    assert found["meta_failed_hosts", "a", "rolled back", "2"] == 1
