"""Which processes are an install's: the wrong answer ends a stranger, or has two of one agent run."""

import os
import subprocess

import pytest

from lab.fleet import until
from updater import processes
from updater.processes import Table


@pytest.fixture
def agent(tmp_path):
    directory = tmp_path / "agent"
    (directory / "1").mkdir(parents=True)
    (directory / "1" / "control").touch()
    yield directory
    processes.end_all_of(directory)


@pytest.fixture
def spawn():
    """Runs commands that end with the test."""
    started = []

    def spawning(*command, **more):
        one = subprocess.Popen(command, **({"start_new_session": True, "cwd": "/"} | more))
        started.append(one)
        return one

    yield spawning
    for one in started:
        one.kill()
        one.wait()


def below(directory):
    return {one.pid for one in Table().below(directory)}


def works_in(one, directory):
    until("it is at work", lambda: os.readlink(f"/proc/{one.pid}/cwd").startswith(str(directory)))
    until("it runs what it is to", lambda: processes.command(one.pid)[:1] == ["sleep"])


# --- the same path elsewhere ---

IN_A_CONTAINER = 'mount -t tmpfs none "$0" && mkdir "$0/1" && cp -L /bin/sleep "$0/1/sleep" && cd "$0/1" && exec "$@"'


@pytest.mark.parametrize("command", [["sleep", "4721"], ["./sleep", "4721"]], ids=["cwd", "exe"])
def test_a_process_of_a_container_is_not_ours_though_its_path_is(agent, spawn, mounts, command):
    one = spawn("unshare", "-m", "sh", "-c", IN_A_CONTAINER, str(agent), *command)
    until("it is at work", lambda: processes.command(one.pid) == command)
    assert os.readlink(f"/proc/{one.pid}/cwd") == str(agent / "1")
    assert below(agent / "1") == set()
    assert Table().by_version(agent) == {}
    assert processes.end_all_of(agent) == 0
    assert one.poll() is None


def test_an_agent_with_mounts_of_its_own_is_ours_where_it_works_in_our_very_directory(agent, spawn, mounts):
    one = spawn("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /mnt && cd "$0" && exec sleep 4722', str(agent / "1"))
    until("it is at work", lambda: processes.command(one.pid) == ["sleep", "4722"])
    assert below(agent / "1") == {one.pid}


def test_an_agent_is_ours_after_its_directory_was_deleted(agent, spawn):
    (agent / "2").mkdir()
    one = spawn("sleep", "4723", cwd=agent / "2")
    works_in(one, agent)
    (agent / "2").rmdir()
    assert below(agent / "2") == {one.pid}
