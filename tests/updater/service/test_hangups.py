"""SIGHUP never ends a service that cannot handle it yet, and ends any other command, as where its terminal is closed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.fleet import until

COMES = "os.kill(os.getpid(), signal.SIGHUP)"
ON_IMPORT = """
import os, signal, sys
def came(event, arguments):
    if event == "import" and arguments[0] == "{module}":
        os.kill(os.getpid(), signal.SIGHUP)
sys.addaudithook(came)
sys.argv[0] = "{command}"
from {command}.program import main
main()
"""
MODULES = {"updater": "updater.cli.main", "meta": "meta.cli"}


@pytest.fixture(params=["while Python starts", "while we are loaded"])
def begin(request, tmp_path):
    """Start a command; SIGHUP comes once, early."""
    if subprocess.run(["env", "-S", "--block-signal=HUP true"], check=False, capture_output=True).returncode:
        pytest.skip("this env blocks no signals")
    started = []

    def begun(command, *words):
        environment = dict(os.environ)
        if request.param == "while Python starts":
            once = tmp_path / "site"
            once.mkdir()
            (once / "sitecustomize.py").write_text(f"import os, signal\n{COMES}\n")
            environment["PYTHONPATH"] = str(once)
            line = [Path(sys.prefix, "bin", command)]
        else:
            line = [sys.executable, "-c", ON_IMPORT.format(module=MODULES[command], command=command)]
        log = tmp_path / "log"
        with log.open("wb") as to:
            started.append(subprocess.Popen([*line, *words], cwd=tmp_path, env=environment, stdout=to, stderr=to))
        return started[-1], log

    yield begun
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize(
    ("command", "words", "ready"),
    [
        ("updater", ("run", "-c", "cfg.json"), "first cycle in"),
        ("meta", ("serve", "--listen", "127.0.0.1:0", "--database", "sqlite:///meta.db"), "meta.server: meta "),
    ],
)
def test_a_hangup_before_a_service_can_handle_it_does_not_end_it(tmp_path, begin, command, words, ready):
    settings = {"server": "127.0.0.1:9", "interval": 60, "http": {"enabled": False}, "hostname": "h1"}
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    service, log = begin(command, *words)
    until("it serves", lambda: ready in log.read_text() or service.poll() is not None)
    assert (service.poll(), ready in log.read_text()) == (None, True), log.read_text()
    before = log.read_text()
    service.send_signal(signal.SIGHUP)
    until("the next one is handled", lambda: len(log.read_text()) > len(before))
    assert service.poll() is None


@pytest.mark.parametrize("command", ["updater", "meta"])
def test_a_hangup_ends_any_other_command(begin, command):
    process, log = begin(command, "--version")
    assert (process.wait(20), log.read_text()) == (-signal.SIGHUP, "")
