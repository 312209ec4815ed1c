"""What happened how often, and what is now, for /metrics: in a registry that each bridge has for itself."""

import threading
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

COUNTERS = {
    "beats": "Heartbeats of agents.",
    "beats_not_stored": "Heartbeats that were answered but not stored: a bad ip or apps text.",
    "thrift_connections": "Connections that agents have opened.",
    "thrift_exceptions": "Calls answered with a Thrift exception, by which the agent changes nothing.",
    "thrift_refused": "Connections of agents closed for bad bytes, a limit or a deadline.",
    "messages": "Messages taken from the queue.",
    "messages_dropped": "Messages that could not be served.",
    "answers_nobody_takes": "Answers that the broker could not deliver.",
    "agents_shared": "Agents written to ZooKeeper.",
    "agents_not_shared": "Agents that ZooKeeper did not take; each is tried again.",
    "hosts_not_remembered": "Heartbeats that meta did not take as a host's report.",
}
GAUGES = {
    "agents_online": "Agents that beat within the last 600 seconds.",
    "connections": "Connections of agents that are open.",
    "rabbitmq_up": "1 while RabbitMQ is connected.",
    "zookeeper_up": "1 while ZooKeeper is connected.",
}


class Numbers(Collector):
    """Counters and gauges by name, of COUNTERS and GAUGES alone. Safe for threads."""

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
        """gauge: asked at each look at /metrics."""
        self._gauges[name] = gauge

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"meta_elves_{name}", text, value=self.get(name))
        for name, gauge in self._gauges.items():
            yield GaugeMetricFamily(f"meta_elves_{name}", GAUGES[name], value=gauge())

    def render(self) -> str:
        """The text of /metrics."""
        return generate_latest(self._registry).decode()
