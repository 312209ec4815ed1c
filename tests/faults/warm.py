"""What a worker process does once, so that none of its thousands of children need do it."""

import importlib
import json
import os
import pkgutil
import shutil
from pathlib import Path
from typing import Any

import updater
from faults import goods, reaper
from helpers.site import Site


def forget_environment() -> None:
    """A proxy or a certificate of whoever runs the suite is none of its business."""
    for name in os.environ.keys() - {"PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}:
        del os.environ[name]


def load_all(directory: Path, site: Site, settings: dict[str, Any]) -> None:
    """Import here, once, what each child would import else, and what libraries do at the first use of each type."""
    for module in pkgutil.walk_packages(updater.__path__, "updater."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    for name in ("difflib", "netrc", "encodings.ascii", "encodings.idna"):
        importlib.import_module(name)
    from updater.host import config
    from updater.host.context import Host
    from updater.kernel import root_lock
    from updater.model.layout import Layout
    from updater.net.http import Http
    from updater.reconcile import cycle

    layout, file = Layout(directory / "root"), directory / "cfg.json"
    layout.root.mkdir(parents=True)
    file.write_text(json.dumps(settings))
    goods.publish(site.files, "first", "1")
    site.desire(("first", "1"))
    for _ in range(2):
        with root_lock.only_one(layout.lock):
            cycle.run(Host(layout, config.load(file), Http()))
    reaper.end_all()
    shutil.rmtree(directory)
