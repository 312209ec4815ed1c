"""The metrics at /metrics, for Prometheus: heartbeats and their latency, hosts by state, drift, and the lag of the database.

All values are read from memory when they are asked for. Labels that hosts choose make at most MAX_SERIES series of one metric:
those with the most hosts, and one for all others.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from meta.heartbeat.stats import BUCKETS
from meta.queries import counting, failures
from updater.wire.heartbeat import VERSION

if TYPE_CHECKING:
    from meta.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES = 1000  # of one metric, and one more for the rest
OTHER = "other"  # the labels of that one


def render(service: "Service", now: float) -> bytes:
    """Return the text of /metrics. now: Unix seconds, by the clock that dates heartbeats."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service, now))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, service: "Service", now: float):
        self._service = service
        self._now = now

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from _heartbeats(self._service)
        yield from _door(self._service)
        yield from _hosts(self._service, self._now)
        yield from _database(self._service, self._now)


def _heartbeats(service: "Service") -> Iterator[Metric]:
    beats = service.beats.counted()
    answered = CounterMetricFamily("meta_heartbeats", "Heartbeats answered, by HTTP status.", labels=["status"])
    for status, count in sorted(beats.by_status.items()):
        answered.add_metric([str(status)], count)
    yield answered
    buckets = list(zip((*map(str, BUCKETS), "+Inf"), map(float, beats.by_bucket), strict=True))
    text = "Seconds from a heartbeat's last byte to its answer."
    yield HistogramMetricFamily("meta_heartbeat_seconds", text, buckets=buckets, sum_value=beats.seconds)


def _door(service: "Service") -> Iterator[Metric]:
    counts = service.counts
    yield GaugeMetricFamily("meta_connections", "Connections that are open.", value=counts.connections)
    text = "Hosts that are parked here, so that an edit reaches them at once."
    yield GaugeMetricFamily("meta_parked_hosts", text, value=len(counts.parked))
    yield CounterMetricFamily("meta_wakes", "Parked hosts that were woken.", value=counts.wakes)
    text = "Seconds from the last change that woke hosts to the last of these wakes."
    yield GaugeMetricFamily("meta_wake_seconds", text, value=counts.wake_seconds)
    yield GaugeMetricFamily("meta_downloads", "Downloads that are under way.", value=counts.downloads)
    refused = CounterMetricFamily(
        "meta_refused_requests",
        "Requests that were refused before anything handled them, by status.",
        labels=["status"],
    )
    for status, count in sorted(Counter(counts.refused).items()):
        refused.add_metric([str(status)], count)
    yield refused
    yield CounterMetricFamily(
        "meta_loop_stalls", "Times that the event loop stood still for a second.", value=counts.stalls
    )


def _hosts(service: "Service", now: float) -> Iterator[Metric]:
    states = GaugeMetricFamily("meta_hosts", "Hosts by state.", labels=["state"])
    for state, hosts in counting.states(service.table, now, service.ages).items():
        states.add_metric([state], hosts)
    yield states
    doubled = len(service.table.doubled(now))
    yield GaugeMetricFamily("meta_doubled_hosts", "Host names under which two machines report.", value=doubled)
    table = service.table
    drift = {(row.agent, row.version): row.hosts for row in counting.drift(table)}
    yield _largest("meta_drift_hosts", "Hosts not as desired.", ("agent", "version"), drift)
    runs = {(row.agent, row.version, row.status): row.hosts for row in counting.counts(table, now)}
    yield _largest("meta_agent_hosts", "Hosts by what they run.", ("agent", "version", "status"), runs)
    text = "Hosts with a version on trial, if their updaters report trials."
    yield _largest("meta_trial_hosts", text, ("agent", "version"), counting.trials(table, now))
    text = "Hosts where the change to what is desired now failed."
    yield _largest("meta_failed_hosts", text, ("agent", "version", "result"), failures.sums(table, now))


def _largest(name: str, text: str, labels: Sequence[str], hosts: Mapping[Any, int]) -> Metric:
    """Return the series with the most hosts, and one labelled OTHER for all others, so that sums stay right."""
    most = dict(nlargest(MAX_SERIES, hosts.items(), key=lambda one: one[1]))
    if rest := sum(hosts.values()) - sum(most.values()):
        other = (OTHER,) * len(labels)
        most[other] = most.get(other, 0) + rest
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, number in most.items():
        family.add_metric(list(key), number)
    return family


def _database(service: "Service", now: float) -> Iterator[Metric]:
    condition = service.condition(now)
    yield GaugeMetricFamily("meta_queue_hosts", "Hosts that wait to be written.", value=condition.waiting)
    yield GaugeMetricFamily(
        "meta_flush_lag_seconds", "Seconds since everything was in the database.", value=condition.lag
    )
    clocks = service.clocks
    apart = GaugeMetricFamily(
        "meta_clock_offset_seconds",
        "Seconds that this machine's clock is ahead of the database's; that another meta's is ahead of this machine's. "
        "Below 0: behind.",
        labels=["of"],
    )
    if clocks.database is not None:
        apart.add_metric(["database"], clocks.database)
    apart.add_metric(["metas"], clocks.metas(now))
    yield apart
    yield GaugeMetricFamily("meta_ready", "1 while edits are accepted.", value=not service.ready())
    yield GaugeMetricFamily(
        "meta_records_revision", "Revision of the records in force.", value=service.records.revision
    )
    version = GaugeMetricFamily("meta_info", "1, with the version of meta.", labels=["version"])
    version.add_metric([VERSION], 1)
    yield version
