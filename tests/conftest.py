"""What all tests share: hypothesis that repeats itself, and a guard against leftovers."""

import os
import random
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same every time", derandomize=True, deadline=None, max_examples=300)
settings.load_profile("same every time")


def pytest_configure():
    """Ctrl-C means what it means at a terminal, also to the programs that tests start: a shell that starts the tests in the
    background has them ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--shuffle", metavar="SEED", help="run the modules, and the tests of each, in another order")


def pytest_report_header(config):
    seed = config.getoption("shuffle")
    return f"shuffled: --shuffle {seed}" if seed else None


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker("long")
    if seed := config.getoption("shuffle"):
        chance = random.Random(seed)
        chance.shuffle(items)
        places = {path: chance.random() for path in sorted({item.path for item in items})}
        items.sort(key=lambda item: places[item.path])


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    """All servers are on loopback: a proxy of the developer's has no part in it."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _leaves_no_process(tmp_path):
    """Fails a test that leaves a process working in its directory."""
    yield
    left = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if (entry / "cwd").readlink().is_relative_to(tmp_path):
                    left.append((entry.name, (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
            except OSError:
                continue
    assert not left, f"left behind: {left}"
