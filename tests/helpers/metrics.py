"""What meta shows at /metrics, with a series of every metric."""

import time
from pathlib import Path

from meta import settings
from meta.service import Service
from meta.store import Store
from meta.web.metrics import render
from updater.wire.heartbeat import RealAgent, Report


def everything(directory: Path) -> str:
    """The text of /metrics of a meta that one host reports to, not as desired; its database is made in the directory."""
    records = directory / "records.yaml"
    records.write_text("agents: [{name: a, version: '2', tarball: http://r}]\n")
    store = Store(f"sqlite:///{directory}/meta.db")
    store.upgrade()
    service = Service(store, settings.Settings(records=records))
    service.start()
    try:
        service.table.beat(Report("h", [RealAgent("a", "1", "started", 1)]), "::1", 1.0)
        for status in (200, 500):
            service.beats.note(status, 0.001)
        return render(service, time.time()).decode()
    finally:
        service.close(5)
        store.close()
