"""`./control` of an unpacked package: alone in a directory, and as versions of an agent in an updater's root."""

import json
import os
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

import pytest

from helpers import machine
from helpers.packaged import configure
from lab.fleet import end_all_of, until
from updater.errors import Misconfigured
from updater.kernel import root_lock
from updater.wire.heartbeat import VERSION

FIRST, SECOND = "1.0.0", "1.0.1"
ENDED = (0, -signal.SIGTERM)  # the second, when it was still loading


@pytest.fixture
def control(root, bare):
    """Runs ./control of a version in the root."""

    def run(version, *arguments, **variables):
        return bare.run(root / "ops-updater" / version / "control", *arguments, **variables)

    return run


def is_dead(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_package_alone_keeps_its_files_beside_it(package, bare):
    configure(package)
    assert bare.run(package / "control", "status").stdout == "stoped\n"
    done = bare.run(package / "control", "start")
    assert (done.returncode, done.stderr) == (0, "")
    pid = bare.run(package / "control", "pid").stdout.strip()
    assert (package / "var" / "app.pid").read_text() == f"{pid}\n"
    assert "first cycle in" in (package / "var" / "app.log").read_text()
    assert bare.run(package / "control", "status").stdout == "started\n"
    assert bare.run(package / "control", "stop").stdout == "updater stopped\n"
    assert bare.run(package / "control", "status").stdout == "stoped\n"
    assert is_dead(pid)


@pytest.mark.long
def test_all_versions_in_a_root_speak_of_the_same_daemon(root, control):
    assert control(FIRST, "start").returncode == 0
    pid = control(FIRST, "pid").stdout
    assert control(SECOND, "status").stdout == "started\n"
    assert control(SECOND, "pid").stdout == pid
    assert f"already running, pid {pid.strip()}" in control(SECOND, "start").stdout
    assert (root / "var" / "app.pid").read_text() == pid
    assert not list(root.glob("ops-updater/*/var"))

    assert control(SECOND, "restart").returncode == 0
    assert control(FIRST, "status").stdout == "started\n"
    assert control(FIRST, "pid").stdout != pid
    assert is_dead(pid.strip())
    assert control(FIRST, "stop").returncode == 0
    assert control(SECOND, "status").stdout == "stoped\n"


def test_the_daemon_works_in_its_versions_directory_on_the_root(root, control):
    control(SECOND, "start")
    pid = control(SECOND, "pid").stdout.strip()
    assert os.readlink(f"/proc/{pid}/cwd") == str(root / "ops-updater" / SECOND)
    with open(f"/proc/{pid}/cmdline") as file:
        words = file.read().split("\0")
    assert words[2:-1] == [
        f"{root}/ops-updater/{SECOND}/updater.pyz",
        "run",
        "-c",
        f"{root}/cfg.json",
        "--root",
        str(root),
    ]
    control(SECOND, "stop")


def test_the_version_of_a_package_is_one_word_and_needs_no_configuration(root, control, package, bare):
    (root / "cfg.json").unlink()
    for done in (control(FIRST, "version"), bare.run(package / "control", "version")):
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{VERSION}\n", "")


@pytest.mark.long
def test_reload_reaches_the_daemon(root, control):
    control(FIRST, "start")
    assert control(SECOND, "reload").returncode == 0
    (root / "cfg.json").write_text("{}")
    done = control(FIRST, "reload")
    assert done.returncode == 1
    assert "server: is missing" in done.stderr
    assert control(SECOND, "restart").returncode == 1
    assert control(SECOND, "status").stdout == "started\n", "it goes on as before"
    control(FIRST, "stop")


def test_a_stopped_agent_is_no_error_for_those_who_ask_its_status(root, control):
    done = control(FIRST, "status")
    assert (done.returncode, done.stdout, done.stderr) == (0, "stoped\n", "")


@pytest.mark.long
def test_started_means_that_the_port_is_taken_or_without_http_the_lock(root, control):
    settings = json.loads((root / "cfg.json").read_text())
    host, _, port = settings["http"]["listen"].rpartition(":")
    with socket.create_server((host, int(port))):
        done = control(FIRST, "start")
        assert (done.returncode, done.stdout) == (1, "")
        assert "in use" in done.stderr
        assert control(FIRST, "status").stdout == "stoped\n"
    (root / "cfg.json").write_text(json.dumps(settings | {"http": {"enabled": False}}))
    assert control(FIRST, "start").returncode == 0
    with pytest.raises(Misconfigured, match="another updater"), root_lock.only_one(root / ".updater" / "lock"):
        pass
    assert control(FIRST, "reload").stdout == "configuration read again\n"
    control(FIRST, "stop")


@pytest.mark.long
def test_a_start_and_hangups_at_once_end_no_updater(root, control, bare):
    with bare.started(
        "sh", "-c", f"until read -r pid; do :; done <'{root}/var/app.pid'; while kill -HUP $pid; do :; done"
    ):
        for version in (FIRST, SECOND):
            assert control(version, "start").returncode == 0
            assert control(version, "reload").returncode == 0
            control(version, "stop")


# --- a user who may not look ---

STRANGER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def open_root(root, request):
    """The root where other users can come; pytest's own directories are closed to them."""
    directory = Path(tempfile.mkdtemp(prefix="ops-updater-test-"))
    directory.chmod(0o755)
    request.addfinalizer(lambda: shutil.rmtree(directory))
    request.addfinalizer(lambda: end_all_of(directory))
    return shutil.copytree(root, directory / "root")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("closed", ["var", "var/app.pid"])
def test_who_may_not_look_is_told_so_and_starts_no_second_one(open_root, bare, closed):
    control = open_root / "ops-updater" / FIRST / "control"
    assert bare.run(control, "start").returncode == 0
    pid_file = open_root / "var" / "app.pid"
    assert pid_file.stat().st_mode & 0o777 == 0o644
    assert bare.run(*STRANGER, control, "status").stdout == "started\n", "anybody may see that"
    (open_root / closed).chmod(0o700 if closed == "var" else 0o600)
    assert bare.run(*STRANGER, control, "status").stdout == "started\n", "the lock names it too"
    (open_root / ".updater").chmod(0o700)
    for verb in ("status", "start", "stop", "restart", "reload", "pid", "run"):
        done = bare.run(*STRANGER, control, verb)
        assert (done.returncode, done.stdout) == (4, ""), verb
        assert f"cannot tell whether updater runs: no permission to read {open_root / closed}" in done.stderr
    assert bare.run(control, "stop").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("closed", ["var", "var/app.log", "elsewhere"])
def test_who_may_not_read_the_log_is_not_told_that_there_is_none(open_root, bare, closed):
    control = open_root / "ops-updater" / FIRST / "control"
    done = bare.run(*STRANGER, control, "tail")
    assert (done.returncode, done.stdout) == (1, "")
    assert "app.log yet: ./control start updater" in done.stderr
    (open_root / "elsewhere" / "var").mkdir(parents=True)
    (open_root / "var").symlink_to(open_root / "elsewhere" / "var")
    log = open_root / "var" / "app.log"
    log.write_text("secret\n")
    log.chmod(0o644)
    (open_root / closed).chmod(0)
    done = bare.run(*STRANGER, control, "tail")
    assert (done.returncode, done.stdout) == (4, "")
    assert f"cannot tell what updater logs: no permission to read {log}" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_who_may_look_but_not_stop_it_is_told_so_at_once(open_root, bare):
    control = open_root / "ops-updater" / FIRST / "control"
    assert bare.run(control, "start").returncode == 0
    for verb in ("stop", "reload"):
        done = bare.run(*STRANGER, control, verb)
        assert (done.returncode, done.stdout) == (4, "")
        assert f"no permission to {verb} updater" in done.stderr
    assert bare.run(control, "stop").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, and mount")
def test_where_proc_hides_the_processes_of_others_it_cannot_be_told(open_root, bare):
    machine.require(machine.no_mounts())
    control = open_root / "ops-updater" / FIRST / "control"
    assert bare.run(control, "start").returncode == 0
    look = f"mount -t proc -o hidepid=2 none /proc && exec {' '.join(STRANGER)} '{control}' status"
    done = bare.run("unshare", "-m", "sh", "-c", look)
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert "no permission to read /proc/" in done.stderr
    assert bare.run(control, "stop").returncode == 0


def test_run_stays_in_the_foreground_and_is_seen_by_the_others(root, control, bare):
    with bare.started(root / "ops-updater" / FIRST / "control", "run") as process:
        until("it runs", lambda: control(SECOND, "status").stdout == "started\n")
        assert control(SECOND, "pid").stdout == f"{process.pid}\n"
        again = control(SECOND, "run")
        assert again.returncode == 1
        assert f"already running, pid {process.pid}" in again.stderr
        assert control(SECOND, "stop").returncode == 0, "though nobody has buried the process yet"
        assert process.wait(20) in ENDED


def test_of_two_started_at_once_the_one_that_works_is_found(root, control):
    control(FIRST, "start")
    pid = control(FIRST, "pid").stdout
    (root / "var" / "app.pid").write_text("999999999\n")  # what the loser noted before it ended
    assert control(SECOND, "pid").stdout == pid
    control(SECOND, "stop")
    assert control(FIRST, "status").stdout == "stoped\n"


@pytest.mark.parametrize("content", ["", "x\n", "-1\n", "{another}\n", "1 2\n"])
def test_a_pid_file_that_names_none_of_ours_is_not_believed(root, control, content):
    (root / "var").mkdir()
    (root / "var" / "app.pid").write_text(content.format(another=os.getpid()))
    assert control(FIRST, "status").stdout == "stoped\n"
    assert control(FIRST, "stop").stdout == "updater is not running\n"


def test_without_a_configuration_it_says_what_to_copy(root, control):
    (root / "cfg.json").unlink()
    done = control(FIRST, "start")
    assert done.returncode == 1
    assert "cp cfg.example.json cfg.json" in done.stderr


@pytest.mark.parametrize("verb", ["demo", "test", "lint", "pack"])
def test_what_needs_a_checkout_says_so(root, control, verb):
    done = control(FIRST, verb)
    assert done.returncode == 1
    assert done.stderr.startswith(f"control: {verb} needs a checkout; this is a package for hosts")


def test_meta_is_not_in_a_package(root, control):
    done = control(FIRST, "start", "meta")
    assert done.returncode == 1
    assert "meta needs a checkout" in done.stderr


def test_a_host_without_a_new_enough_python_is_told_so(root, control, bare):
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (bare.bin / name).unlink(missing_ok=True)
        bare.program(name, "exit 1")
    for verb in ("start", "version"):
        done = control(FIRST, verb)
        assert (done.returncode, done.stdout) == (2, "")
        assert "needs Python 3.11 or newer" in done.stderr


def test_the_python_can_be_named_even_with_a_blank_in_its_path(root, control, bare):
    named = bare.home / "a python"
    (bare.bin / "python3").rename(named)
    bare.program("python3", "exit 1")
    assert control(FIRST, "start", PYTHON=str(named)).returncode == 0
    control(FIRST, "stop")


@pytest.mark.timed
def test_status_is_quick_and_needs_no_python(root, control, bare):
    (bare.bin / "python3").unlink()
    took = []
    for _ in range(10):
        began = time.monotonic()
        assert control(FIRST, "status").stdout == "stoped\n"
        took.append(time.monotonic() - began)
    assert min(took) < 0.02


@pytest.mark.parametrize("shell", ["sh", "dash", "bash --posix", "busybox sh"])
def test_any_shell_of_posix_will_do(root, bare, shell):
    # A shell that this machine lacks is one less to ask; `sh` is always there.
    command = f"command -v {shell.split()[0]} >/dev/null || {{ echo stoped; exit; }}; exec {shell} ./control status"
    done = bare.run("sh", "-c", f"cd '{root}/ops-updater/{FIRST}' && {command}", CDPATH="/:/tmp")
    assert (done.returncode, done.stdout, done.stderr) == (0, "stoped\n", "")


SYSTEMCTL = """
echo "$*" >>{log}
case "$*" in
show*) echo 'ExecStart={{ path={root}/run ; argv[]={root}/run ; ignore_errors=no }}' ;;
*stop*) kill "$(cat {root}/var/app.pid)" ;;
*start*) setsid {root}/ops-updater/1.0.0/control run >{root}/log 2>&1 </dev/null & ;;
esac
"""


def test_where_systemd_keeps_the_updater_it_is_asked_to_start_and_stop_it(tmp_path, root, bare):
    plain = tmp_path / "root"
    root.rename(plain)
    log = bare.home / "systemctl.log"
    bare.program("systemctl", SYSTEMCTL.format(root=plain, log=log))
    control = plain / "ops-updater" / FIRST / "control"
    done = bare.run(control, "start")
    assert done.stdout.startswith("updater started by systemd, pid "), done.stderr
    assert bare.run(control, "status").stdout == "started\n"
    assert bare.run(control, "stop").returncode == 0
    asked = [line for line in log.read_text().splitlines() if not line.startswith("show")]
    assert asked == [
        "--no-ask-password start ops-updater.service",
        "--no-ask-password stop ops-updater.service",
    ]


def test_a_unit_of_another_root_is_left_alone(root, control, bare):
    log = bare.home / "systemctl.log"
    bare.program("systemctl", SYSTEMCTL.format(root="/another", log=log))
    assert "started, pid" in control(FIRST, "start").stdout
    assert control(FIRST, "stop").returncode == 0
    assert all(line.startswith("show") for line in log.read_text().splitlines())


def test_a_start_that_fails_shows_why(root, control):
    (root / "cfg.json").write_text('{"server": "m:1", "interval": 60, "tools": ["no-such-tool"]}')
    done = control(FIRST, "start")
    assert done.returncode == 1
    assert "not found on PATH: no-such-tool" in done.stderr
    assert control(FIRST, "status").stdout == "stoped\n"
