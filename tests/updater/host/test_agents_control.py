"""Control scripts as they are in the field: well-behaved, daemonising, hanging, flooding, broken."""

import os
import signal
import time
from pathlib import Path

import pytest

from helpers import racing
from helpers.agents import install, script
from lab.fleet import end_all_of, until
from updater.errors import ControlFailed
from updater.host import control_script
from updater.model.observed import State, Status


@pytest.fixture
def agent(tmp_path):
    """Makes an install with this control; whatever it leaves running is ended."""

    def make(text, mode=0o755):
        return install(tmp_path, "agent", "1", text, mode=mode)

    yield make
    end_all_of(tmp_path)


def gone(pid_file: Path):
    try:
        os.kill(int(pid_file.read_text()), 0)
    except ProcessLookupError:
        return True
    except (FileNotFoundError, ValueError):
        return False
    return False


@pytest.mark.parametrize(
    ("printed", "state"),
    [
        ("started", State.STARTED),
        ("stoped", State.STOPPED),
        ("stopped", State.STOPPED),
        ("  started\\n\\n", State.STARTED),
        ("Started", State.UNKNOWN),
        ("started 4711", State.UNKNOWN),
        ("", State.UNKNOWN),
    ],
)
def test_only_the_two_words_are_a_status(agent, printed, state):
    assert control_script.status(agent(script(f'printf "{printed}"')), 5).state is state


def test_the_exit_code_of_a_status_means_nothing(agent):
    assert control_script.status(agent(script("echo started; exit 3")), 5).state is State.STARTED


BROKEN = {
    "no shebang": (
        "echo started\n",
        0o755,
        "it is neither a program (ELF) nor does it begin with `#!`: only a shell would run it",
    ),
    "a shebang with CRLF": (
        "#!/bin/sh\r\necho started\r\n",
        0o755,
        "its first line ends in CR LF, as editors of Windows write it: the kernel takes the CR for part of a name",
    ),
    "an interpreter that is not here": (
        "#!/nonexistent/sh\n",
        0o755,
        "its interpreter /nonexistent/sh is not on this machine",
    ),
    "no run bit": ("#!/bin/sh\n", 0o644, "Permission denied"),
}


@pytest.mark.parametrize(("text", "mode", "why"), BROKEN.values(), ids=BROKEN.keys())
def test_a_control_that_cannot_run_is_a_status_with_the_reason(agent, text, mode, why):
    status = control_script.status(agent(text, mode), 5)
    assert status.text == f"exec `./control status` fail: {why}"
    assert status.state is State.UNKNOWN


def test_a_version_without_control_is_a_status_too(tmp_path):
    (tmp_path / "agent").mkdir()
    assert "No such file" in control_script.status(tmp_path / "agent", 5).text


def test_a_script_that_hangs_is_ended_with_its_children(agent, tmp_path):
    directory = agent(script("echo $$ >pid; sleep 1000 & echo $! >child; wait"))
    with pytest.raises(ControlFailed, match=r"timed out after 0\.3 s"):
        control_script.run(directory, "status", 0.3)
    until("the script is gone", lambda: gone(directory / "pid"))
    until("its child is gone", lambda: gone(directory / "child"))


def test_what_a_script_leaves_to_another_user_is_no_defect_of_ours(agent):
    """The kernel's answer where a script that is out of time has only children of another user left, by sudo."""
    directory = agent(script("sleep 1000"))
    given = f"from pathlib import Path\nfrom updater.host import control_script\ndirectory = Path({str(directory)!r})"
    program = "try: control_script.run(directory, 'start', 0.3)\nexcept control_script.ControlFailed as e: print(e)"
    done = racing.run("os.killpg", "raise PermissionError(1, 'Operation not permitted')", given, program)
    assert (done.returncode, done.stdout) == (0, "timed out after 0.3 s\n"), done.stderr


def test_a_script_that_ignores_term_is_killed(agent):
    directory = agent(script("trap '' TERM; echo $$ >pid; while :; do sleep 1000; done"))
    began = time.monotonic()
    with pytest.raises(ControlFailed, match="timed out"):
        control_script.run(directory, "stop", 0.3)
    until("the script is gone", lambda: gone(directory / "pid"))
    assert time.monotonic() - began < 15


def test_a_daemon_that_keeps_our_pipe_open_does_not_hold_us(agent):
    directory = agent(script("sleep 1000 & echo started"))
    began = time.monotonic()
    assert control_script.status(directory, 30).state is State.STARTED
    assert time.monotonic() - began < 15


def test_a_daemon_that_keeps_its_start_output_open_goes_on_writing_to_the_log(agent, tmp_path):
    log = tmp_path / "out" / "agent.log"
    directory = agent(script("(while :; do echo beat; sleep 0.05; done) & echo up"))
    control_script.run(directory, "start", 30, log)
    until("it beats on", lambda: log.read_text().count("beat") > 2)


def test_a_flood_into_a_pipe_is_ended(agent):
    directory = agent(script("echo $$ >pid; exec yes"))
    with pytest.raises(ControlFailed, match="printed more than 1 MiB"):
        control_script.run(directory, "stop", 60)
    until("the script is gone", lambda: gone(directory / "pid"))


LOUD = {
    "before the word": "head -c 20000000 /dev/zero >&2; echo WORD",
    "after the word": "echo WORD; head -c 20000000 /dev/zero >&2",
    "for ever, by what the status leaves": "cat /dev/zero >&2 & echo WORD",
}


@pytest.mark.parametrize("lines", LOUD.values(), ids=LOUD.keys())
@pytest.mark.parametrize(("word", "state"), [("started", State.STARTED), ("stoped", State.STOPPED)])
def test_no_flood_on_stderr_decides_a_status(agent, lines, word, state):
    directory = agent(script(lines.replace("WORD", word)))
    assert control_script.status(directory, 20) == Status(word)
    assert control_script.status(directory, 20).state is state


def test_of_much_stderr_the_last_line_is_the_evidence_of_an_unknown_status(agent):
    directory = agent(script("echo what; yes noise | head -n 5000000 >&2; echo broken >&2"))
    assert control_script.status(directory, 20).text == "what (stderr: broken)"


@pytest.mark.parametrize("log", [None, "out/agent.log"])
def test_the_last_of_the_output_is_kept(agent, tmp_path, log):
    directory = agent(script("seq 1 20000; echo the end"))
    output = control_script.run(directory, "start", 30, tmp_path / log if log else None)
    assert output.endswith("20000\nthe end")
    assert len(output) <= control_script.KEPT


def test_output_that_is_not_utf8_is_a_status_all_the_same(agent):
    status = control_script.status(agent(script(r"printf '\377\033[2Jstarted'")), 5)
    assert status.state is State.UNKNOWN
    assert status.text.isprintable()


def test_scripts_have_no_input_and_a_session_of_their_own(agent):
    directory = agent(script("cat; echo $$; cut -d' ' -f6 /proc/$$/stat; pwd"))
    pid, session, cwd = control_script.run(directory, "status", 10).split()
    assert pid == session
    assert cwd == str(directory)


def test_a_script_killed_by_a_signal_is_one_that_said_nothing(agent):
    assert control_script.status(agent(script("kill -9 $$")), 5).text == ""


def test_a_script_that_deletes_its_directory_is_survived(agent):
    directory = agent(script('rm -rf "$PWD"; echo started'))
    assert control_script.status(directory, 5).state is State.STARTED
    assert control_script.status(directory, 5).state is State.UNKNOWN


def test_stderr_is_in_the_output_of_the_other_verbs(agent):
    assert control_script.run(agent(script("echo out; echo error >&2")), "stop", 5).split() == ["out", "error"]


@pytest.mark.long
def test_the_processes_of_an_install_are_found_and_ended_also_when_they_ignore_term(agent):
    directory = agent(script("trap '' TERM; while :; do sleep 0.1; done & echo $! >pid"))
    control_script.run(directory, "start", 10)
    until("it runs", lambda: (directory / "pid").exists())
    assert end_all_of(directory) >= 1
    until("init has buried it", lambda: gone(directory / "pid"))


def test_processes_elsewhere_are_left_alone(agent, tmp_path):
    mine, other = (
        agent(script("sleep 1000 & echo $! >pid")),
        install(tmp_path, "agent", "10", script("sleep 1000 & echo $! >pid")),
    )
    control_script.run(mine, "start", 10, tmp_path / "mine.log")
    control_script.run(other, "start", 10, tmp_path / "other.log")
    end_all_of(mine)
    until("init has buried it", lambda: gone(mine / "pid"))
    assert not gone(other / "pid")
    os.kill(int((other / "pid").read_text()), signal.SIGKILL)
