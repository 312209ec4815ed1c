"""The counters and gauges of the bridge, for /metrics. Each bridge has a registry of its own."""

import threading
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

COUNTERS = {
    "beats": "Heartbeats of agents.",
    "beats_not_stored": "Heartbeats that were answered but not stored: a bad ip or apps text.",
    "thrift_connections": "Connections that agents have opened.",
    "thrift_exceptions": "Calls answered with a Thrift exception, so that the agent changes nothing.",
    "thrift_refused": "Connections of agents closed because of bad bytes, a limit or a deadline.",
    "messages": "Messages received from the queue.",
    "messages_dropped": "Messages that could not be handled.",
    "answers_nobody_takes": "Answers that the broker could not deliver.",
    "agents_shared": "Agents written to ZooKeeper.",
    "agents_not_shared": "Agents that could not be written to ZooKeeper; each is tried again.",
    "hosts_not_remembered": "Heartbeats that meta did not accept as a host's report.",
}
GAUGES = {
    "agents_online": "Agents with a heartbeat in the last 600 seconds.",
    "connections": "Open connections of agents.",
    "rabbitmq_up": "1 while RabbitMQ is connected.",
    "zookeeper_up": "1 while ZooKeeper is connected.",
}


class Numbers(Collector):
    """The values of COUNTERS and GAUGES, by name. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._gauges: dict[str, Callable[[], float]] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def add(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._counts[name] += by

    def get(self, name: str) -> int:
        return self._counts[name]

    def watch(self, name: str, gauge: Callable[[], float]) -> None:
        """Set the function that returns a gauge's value whenever /metrics is read."""
        self._gauges[name] = gauge

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; the registry calls this."""
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"meta_elves_{name}", text, value=self.get(name))
        for name, gauge in self._gauges.items():
            yield GaugeMetricFamily(f"meta_elves_{name}", GAUGES[name], value=gauge())

    def render(self) -> str:
        """Return the text of /metrics."""
        return generate_latest(self._registry).decode()
