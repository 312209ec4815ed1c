"""The units under a real systemd, booted in name spaces on a copy of this machine: the updater works in them, and an agent
outlives its restart. Skipped where a machine cannot be booted so."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from helpers import machine
from helpers.agents import QUIET
from helpers.site import Site
from lab.fleet import Late, until

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
SYSTEMD = Path("/lib/systemd/systemd")
APART = ("unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--cgroup")
LOG = "/opt/ops-updater/log"
CONFIG = "/opt/ops-updater/cfg.json"
TARGET = "[Unit]\nDescription=All there is\nAllowIsolate=yes\n"
# What an agent finds when it starts.
LOOK = QUIET.replace(
    "start) running ||",
    "start) { grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status; for d in / /tmp /var /root /opt/ops-updater/agent; do "
    "touch $d/x 2>/dev/null && echo writes $d; done; ls /opt/ops-updater/cfg.json; } >../seen 2>&1; running ||",
)


class Booted:
    """A machine with the updater's unit running."""

    def __init__(self, directory: Path, pid: int) -> None:
        self.console = directory / "console"
        self._enter = ("nsenter", "-t", str(pid), "-m", "-p", "-r", "-w")

    def run(self, *command: str) -> str:
        done = subprocess.run([*self._enter, *command], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr


@pytest.fixture
def site(tmp_path):
    with Site(tmp_path / "site") as running:
        yield running


@pytest.fixture
def boot(tmp_path, warm, bare, site):
    """A function that installs with these options and boots."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not shutil.which("nsenter"):
        pytest.skip("no root, no systemd or no nsenter here")
    machine.require(machine.no_mounts())
    if not Path("/sys/fs/cgroup/systemd").is_dir():
        pytest.skip("this test knows only control groups of version 1")
    if not Path("/usr/bin/python3").exists():
        pytest.skip("no Python outside /root here, which a hardened unit hides")
    directory = tmp_path / "boot"
    (directory / "opt").mkdir(parents=True)
    (directory / "console").touch()
    started = []

    def install_and_boot(*options):
        done = bare.run(
            warm / "control",
            "install",
            "--destdir",
            directory,
            "--server",
            site.address,
            *options,
            PYTHON="/usr/bin/python3",
        )
        assert done.returncode == 0, done.stderr
        file = directory / "opt/ops-updater/cfg.json"
        http = {"enabled": False}
        file.write_text(json.dumps(json.loads(file.read_text()) | {"interval": 0.2, "hostname": "h1", "http": http}))
        (directory / "opt/ops-updater/environment").write_text("PYTHON=/usr/bin/python3\n")
        units = directory / "etc/systemd/system"
        (units / "ops-updater.service.d").mkdir(exist_ok=True)
        (units / "ops-updater.service.d/log.conf").write_text(f"[Service]\nStandardOutput=append:{LOG}\n")
        (units / "multi-user.target.wants").mkdir()
        (units / "multi-user.target.wants/ops-updater.service").symlink_to("../ops-updater.service")
        for target in ("multi-user", "basic", "sysinit", "shutdown", "network", "local-fs"):
            (units / f"{target}.target").write_text(TARGET)
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen([*APART, "sh", HERE / "boot.sh", directory], stdout=log, stderr=log)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until("it boots", lambda: process.poll() is None and children.read_text().split())
        started.append((process, int(children.read_text().split()[0])))
        return Booted(directory, started[-1][1])

    yield install_and_boot
    for process, pid in started:
        os.kill(pid, signal.SIGKILL)  # and with it all that was started there
        process.wait(20)


def works(booted, site):
    """The updater installs an agent, keeps it over its own restart, and upgrades it after that."""
    site.publish(version="1", control=LOOK)
    site.desire(("agent", "1"))
    try:
        until("the agent is reported", lambda: agent_in(site) == ("1", "started"))
    except Late as e:
        raise Late(f"{e}\n{booted.run('systemctl', 'status', 'ops-updater')}{booted.run('cat', LOG)}") from e
    pid = booted.run("cat", "/opt/ops-updater/agent/1/pid")
    main = booted.run("systemctl", "show", "-P", "MainPID", "ops-updater")
    assert booted.run("systemctl", "restart", "ops-updater") == ""
    assert booted.run("systemctl", "show", "-P", "MainPID", "ops-updater") != main
    site.reports.clear()
    until("it beats again", lambda: agent_in(site) == ("1", "started"))
    assert booted.run("cat", "/opt/ops-updater/agent/1/pid") == pid
    reloads(booted)
    site.publish(version="2", control=LOOK)
    site.desire(("agent", "2"))
    until("the agent is upgraded", lambda: agent_in(site) == ("2", "started"))
    return booted.run("cat", "/opt/ops-updater/agent/seen")


def reloads(booted):
    """`systemctl reload` fails when the configuration is refused, and only then; the same process goes on."""
    main = booted.run("systemctl", "show", "-P", "MainPID", "ops-updater")
    assert booted.run("systemctl", "reload", "ops-updater") == ""
    assert "configuration read again" in booted.run("cat", LOG)
    keep = booted.run("cat", CONFIG)
    booted.run("sh", "-c", f"echo '{{' >{CONFIG}")
    assert "Job for ops-updater.service failed" in booted.run("systemctl", "reload", "ops-updater")
    booted.run("sh", "-c", f"echo '{keep}' >{CONFIG}")
    assert booted.run("systemctl", "show", "-P", "MainPID", "ops-updater") == main


def agent_in(site):
    agents = site.reports[-1]["realAgents"] if site.reports else []
    return next(((a["version"], a["status"]) for a in agents if a["name"] == "agent"), None)


def test_the_unit_lets_the_updater_and_its_agents_do_their_work(boot, site):
    seen = works(boot(), site)
    assert re.findall(r"writes (.*)", seen) == ["/", "/tmp", "/var", "/root", "/opt/ops-updater/agent"]
    assert "NoNewPrivs:\t0" in seen
    assert "Seccomp:\t2" in seen
    bounded = int(re.search(r"CapBnd:\t(\w+)", seen)[1], 16)
    assert [bounded >> number & 1 for number in (28, 36, 35)] == [0, 0, 0]  # LEASE, BLOCK_SUSPEND, WAKE_ALARM
    assert [bounded >> number & 1 for number in (0, 12, 13, 21)] == [1, 1, 1, 1]  # CHOWN, NET_ADMIN, NET_RAW, SYS_ADMIN


def test_a_hardened_unit_lets_them_write_nowhere_else(boot, site):
    seen = works(boot("--hardened"), site)
    assert re.findall(r"writes (.*)", seen) == ["/tmp", "/opt/ops-updater/agent"]
    assert "NoNewPrivs:\t1" in seen
    assert "Seccomp:\t2" in seen
    bounded = int(re.search(r"CapBnd:\t(\w+)", seen)[1], 16)
    assert [bounded >> number & 1 for number in (0, 12, 13, 21)] == [1, 0, 0, 0]
