"""What the scripts of CI print at their end, and what they exit with."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import machine

REPOSITORY = Path(__file__).parents[2]


def ci(script):
    command = ["bash", "-c", f". .ci/lib.sh\n{script}\nsummary"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


def test_the_seconds_of_each_part_are_printed_at_the_end():
    done = ci("part 'one' sleep 1\npart 'two' true")
    assert re.search(r"\none +[1-9] s  passed\ntwo +\d s  passed\nall +[1-9] s\n$", done.stdout)
    assert done.returncode == 0


def test_a_part_that_fails_fails_the_run_and_the_others_run_all_the_same():
    done = ci("part 'one' false\npart 'two' echo said")
    assert re.search(r"said\n(.*\n)*one +\d s  FAILED\ntwo +\d s  passed\n", done.stdout)
    assert done.returncode == 1


def test_advice_says_what_would_break_and_fails_nothing():
    done = ci("advice 'newest' false\nabsent 'Python 3.99' 'no python3.99'")
    assert re.search(r"newest +\d s  FAILED\nPython 3\.99 +-  not here: no python3\.99\n", done.stdout)
    assert done.returncode == 0
    assert ci("part 'one' false\nadvice 'newest' true").returncode == 1


@pytest.mark.parametrize("second_time, code", [("passes", 0), ("fails", 1)])
def test_what_failed_is_tried_once_more_and_is_told_apart(tmp_path, second_time, code):
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "control").write_text("#!/bin/sh\n.venv/bin/python -m pytest -q\n")
    (tmp_path / "control").chmod(0o755)
    again = "True" if second_time == "passes" else "False"
    (tmp_path / "test_it.py").write_text(
        "from pathlib import Path\n"
        "def test_good(): pass\n"
        "def test_bad():\n"
        "    there = Path('tried').exists()\n"
        "    Path('tried').touch()\n"
        f"    assert there and {again}\n"
    )
    script = f". {REPOSITORY}/.ci/lib.sh; part tests tests; summary"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("tests that passed only alone: mend them" in done.stdout) == (code == 0)
    assert ("\n  test_it.py::test_bad\n" in done.stdout) == (code == 0), "which those are"
    assert "test_good" not in done.stdout.partition("once more")[2], "only what failed"


@pytest.fixture
def in_debian(tmp_path):
    """Runs a command as in a Debian of its own; this one is the machine's own root once more."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    machine.require(machine.no_mounts())

    def run(*words):
        script = f'mount --rbind / {tmp_path} && . .ci/lib.sh && in_debian {tmp_path} "$@"'
        command = ["unshare", "--mount", "bash", "-c", script, "bash", *words]
        environment = os.environ | {"TEST_POSTGRESQL_URL": "postgresql://x"}
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_in_a_debian_of_its_own_ci_still_wants_everything_there_and_knows_the_database(in_debian):
    done = in_debian("sh", "-c", "echo $CI $TEST_POSTGRESQL_URL ${PYTEST_ADDOPTS##* } $HOME")
    assert done.stdout == "true postgresql://x -rs /root\n", done.stderr


def test_in_a_debian_of_its_own_what_has_mounts_of_its_own_has_the_paths_of_there(in_debian):
    """As on any machine, and unlike in a chroot: `ownership` is about such processes."""
    has_mounts = "mount -t tmpfs none /mnt && cd /mnt && echo ready && read -r _"
    look = f"""
import os, subprocess
command = ["unshare", "--mount", "sh", "-c", {has_mounts!r}]
with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    print(os.readlink(f"/proc/{{process.pid}}/cwd"))
    process.stdin.close()
"""
    done = in_debian(sys.executable, "-c", look)
    assert done.stdout == "/mnt\n", done.stderr


def test_what_tests_need_is_installed_in_a_debian_too():
    done = ci('packages "${TOOLS[@]}" "${MORE_TOOLS[@]}"')
    assert {"nginx", "strace", "zookeeper", "postgresql", "rabbitmq-server", "prometheus"} <= set(done.stdout.split())


@pytest.mark.parametrize("script", ["run", "long", "lib.sh"])
def test_the_scripts_are_bash(script):
    assert subprocess.run(["bash", "-n", REPOSITORY / ".ci" / script], check=False).returncode == 0
