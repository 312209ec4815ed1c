"""What was read is read again only when it has changed: counted, and with real files."""

import os
import time

import pytest

from lab.fleet import until
from updater.cached_reads import CachedReads
from updater.host import control_script, host_name
from updater.kernel import agent_environment
from updater.kernel.pid_files import pid_files
from updater.model.layout import Layout

OLD = time.time() - 3600


@pytest.fixture
def reads():
    return []


@pytest.fixture
def kept(reads):
    def read(path):
        reads.append(path)
        return path.read_text() if path.exists() else ""

    return CachedReads(read)


def is_kept(kept, reads, path):
    before = len(reads)
    kept(path)
    return len(reads) == before


def test_what_has_not_changed_is_read_once(tmp_path, kept, reads):
    file = tmp_path / "a"
    file.write_text("one")
    until("it is no longer new", is_kept, kept, reads, file)
    assert kept(file) == "one"
    file.write_text("two")
    assert kept(file) == "two"
    file.unlink()
    assert kept(file) == ""


def test_what_has_just_changed_is_not_kept_for_a_second_change_may_look_the_same(tmp_path, kept):
    file = tmp_path / "a"
    file.write_text("one")
    assert kept(file) == "one"
    file.write_text("two")
    os.utime(file, (OLD, OLD))
    assert kept(file) == "two"
    file.write_text("six")
    os.utime(file, (OLD, OLD))
    assert kept(file) == "six"


def test_a_fork_reads_for_itself(tmp_path, kept, reads):
    file = tmp_path / "a"
    file.write_text("one")
    until("it is no longer new", is_kept, kept, reads, file)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if not is_kept(kept, reads, file) and is_kept(kept, reads, file) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert is_kept(kept, reads, file), "and we go on"


def test_what_is_blank_is_read_again(tmp_path, kept, reads):
    for _ in range(3):
        assert kept(tmp_path / "none") == ""
    assert len(reads) == 3


def test_the_environment_of_agents_is_made_once_and_again_when_its_file_changes(tmp_path):
    root = Layout(tmp_path)
    install = root.agent("agent").install("1")
    before = control_script.environment(install)
    assert control_script.environment(install) is before
    (tmp_path / agent_environment.FILE).write_text("ADDED=1\n")
    assert control_script.environment(install).names["ADDED"] == "1"
    assert control_script.environment(install).encoded[b"ADDED"] == b"1"
    (tmp_path / agent_environment.FILE).unlink()
    assert "ADDED" not in control_script.environment(install).names


def test_a_machine_is_hashed_once():
    assert host_name.hashed("boot", "0a" * 16) is host_name.hashed("boot", "0a" * 16)


def test_pid_files_that_come_and_change_are_seen(tmp_path):
    (tmp_path / "var").mkdir()
    os.utime(tmp_path / "var", (OLD, OLD))
    assert pid_files(tmp_path) == {}
    (tmp_path / "var" / "app.pid").write_text("17\n")
    assert pid_files(tmp_path) == {tmp_path / "var" / "app.pid": 17}
    with (tmp_path / "var" / "app.pid").open("r+") as file:
        file.write("18\n")
    assert pid_files(tmp_path) == {tmp_path / "var" / "app.pid": 18}
    (tmp_path / "pid").write_text("no number")
    assert pid_files(tmp_path) == {tmp_path / "var" / "app.pid": 18}
    (tmp_path / "var" / "app.pid").unlink()
    assert pid_files(tmp_path) == {}
