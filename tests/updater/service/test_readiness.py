"""What a service says of itself, and a reload that is asked for by a signal."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from lab.fleet import until
from updater.errors import TryLater
from updater.kernel import processes
from updater.service.readiness import AGAIN, READY, REFUSED, RELOADED, Announcement, Announcer, announced, ask_to_reload

SERVICE = """
import signal, sys, time
from pathlib import Path
from updater.service.readiness import Announcer

class No(Exception): pass

def read():
    text = Path(sys.argv[2]).read_text()
    if text == "bad": raise No("it is bad")
    if text == "end": sys.exit(3)
    if text == "slow": time.sleep(0.5)
    return text

signal.signal(signal.SIGHUP, lambda *_: announcer.reload(read, No))
announcer = Announcer.of_this_process(Path(sys.argv[1]))
announcer.ready(0)
while True: signal.pause()
"""


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def service(tmp_path, state):
    """A process that reads the file `settings` when it is asked to."""
    (tmp_path / "settings").write_text("first")
    with subprocess.Popen([sys.executable, "-c", SERVICE, state, tmp_path / "settings"]) as process:
        try:
            until("it is ready", announced, state)
            yield process
        finally:
            process.kill()


def test_a_service_says_that_it_is_ready_until_it_ends(state, service):
    assert announced(state) == Announcement(processes.identity(service.pid), READY, 0, "")
    service.kill()
    service.wait()
    assert announced(state) is None


def test_a_reload_says_what_was_read_or_why_nothing_was(tmp_path, state, service):
    (tmp_path / "settings").write_text("second")
    said = ask_to_reload(state, 20)
    assert (said.word, said.text) == (RELOADED, "second")
    (tmp_path / "settings").write_text("bad")
    said = ask_to_reload(state, 20)
    assert (said.word, said.text) == (REFUSED, "it is bad")


def test_reloads_side_by_side_each_get_an_answer_that_was_read_after_they_asked(tmp_path, state, service):
    (tmp_path / "settings").write_text("slow")
    found = []
    first = threading.Thread(target=lambda: found.append(ask_to_reload(state, 20)))
    first.start()
    until("the first has been asked for", lambda: not first.is_alive() or service.poll() is None)
    (tmp_path / "settings").write_text("third")
    assert ask_to_reload(state, 20).text == "third"
    first.join()
    assert [one.word for one in found] == [RELOADED]


def test_a_service_that_ends_of_a_reload_is_told_apart_from_one_that_is_silent(tmp_path, state, service):
    (tmp_path / "settings").write_text("end")
    with pytest.raises(TryLater, match=r"has ended instead of reading"):
        ask_to_reload(state, 20)


def test_a_service_that_says_nothing_is_not_waited_for_for_ever(state, service):
    os.kill(service.pid, signal.SIGSTOP)
    with pytest.raises(TryLater, match=r"has not reported the result within 0\.1 s"):
        ask_to_reload(state, 0.1)


@pytest.mark.parametrize(
    "content",
    [b"", b"1 ready 1.1\n", b"x y z w\n", b"\xff\xfe 1 2 3\n", b"1 ready x.1 0\n", b"9" * 5000, b"[" * 100_000, b"{}"],
)
def test_a_file_that_says_nothing_usable_is_as_none(state, content):
    state.write_bytes(content)
    assert announced(state) is None


def test_a_file_that_cannot_be_written_stops_no_service(tmp_path, caplog):
    Announcer.of_this_process(tmp_path / "nowhere" / "state").ready(0)
    assert "the state for ./control cannot be written" in caplog.text


def test_that_a_service_was_ready_once_stays_said_while_it_starts_again(state):
    announcer = Announcer.of_this_process(state)
    announcer.starts()
    assert announcer.said() is None
    announcer.ready(5)
    announcer.starts()
    assert announcer.said() == Announcement(announcer.process, AGAIN, 0, "")


def test_nowhere_to_say_it_is_no_error():
    announcer = Announcer.of_this_process(None)
    announcer.ready(0)
    announcer.withdraw()
    assert announcer.said() is None
