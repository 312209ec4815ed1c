"""The name that a host reports under: derived ones that are none, and ones that change, as on machines without their network.

Kinds from public reports: a machine that is `localhost.localdomain` until DHCP answers, and again when its lease is lost.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.agents import QUIET
from lab.fleet import Host, until
from updater.host import host_name
from updater.host.last_reply import LastReply, Orders, Uptime
from updater.wire.heartbeat import Desired

SET_NAME = """
import runpy, socket, sys
socket.sethostname(sys.argv[1])
sys.argv[:2] = ["updater"]
runpy.run_module("updater.cli", run_name="__main__")
"""


@pytest.fixture
def host(tmp_path, site, names):
    with Host(
        tmp_path / "h1", site.address, interval=60, watch=0, timeouts={"start": 2, "stop": 2, "status": 2}
    ) as made:
        configure(made, hostname="")
        yield made


def configure(host, **keys):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | keys))


def command(name, *arguments):
    return ["unshare", "--uts", sys.executable, "-c", SET_NAME, name, *arguments]


def as_machine(name, host, *arguments):
    """The updater of a machine of this name."""
    asked = command(name, *arguments, "-c", str(host.config))
    return subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "derived",
    [
        *(
            "localhost",
            "localhost.localdomain",
            "(none)",
            "(none).corp.example",
            "",
            "LOCALHOST",
            "localhost.corp.example",
        ),
        *("a b", "localhost6.localdomain6", "localhost4", "ip6-localhost", "ip6-loopback"),
    ],
)
def test_a_derived_name_that_names_no_host_says_what_to_do(derived):
    assert host_name.derived_problem(derived).endswith("which names no host: set hostname in cfg.json")


@pytest.mark.parametrize("derived", ["web-1", "web-1.corp.example", "localhosted", "ip-10-0-0-1", "ip6-router"])
def test_other_derived_names_are_used(derived):
    assert host_name.derived_problem(derived) == ""


@pytest.mark.parametrize("derived", ["localhost", "localhost.localdomain", "(none)"])
def test_a_host_without_a_name_reports_nothing_and_changes_nothing(host, site, derived):
    site.publish()
    site.desire(("agent", "1"))
    done = as_machine(derived, host, "once")
    assert done.returncode == 2
    assert "set hostname in cfg.json" in done.stderr
    assert (site.reports, site.gets) == ([], [])
    assert not (host.root / "agent").exists()


@pytest.mark.parametrize("given", ["localhost", "web-1"])
def test_a_name_in_the_configuration_is_used_as_it_is(host, site, given):
    configure(host, hostname=given)
    assert as_machine("localhost", host, "once").returncode == 0
    assert [report["hostname"] for report in site.reports] == [given]


@pytest.mark.long
def test_a_host_whose_name_has_changed_keeps_its_last_orders_and_says_so(host, site):
    site.publish()
    site.desire(("agent", "1"))
    assert as_machine("web-1", host, "once").returncode == 0
    site.desire(("agent", "2"))
    done = as_machine("web-2", host, "once")
    assert done.returncode == 3
    assert (
        "calls itself web-2 now, and was web-1 at its last heartbeat: its last orders are kept for another 60 min"
        in done.stderr
    )
    assert {report["hostname"] for report in site.reports} == {"web-1"}
    assert host.current("agent") == "1"
    assert "calls itself web-2" in as_machine("web-2", host, "why", "agent").stdout
    assert as_machine("web-1", host, "once").returncode == 1, "its own name again: it reports, and 2 is not to be had"


@pytest.mark.long
def test_after_an_hour_it_reports_under_the_new_name(host, site):
    assert as_machine("web-1", host, "once").returncode == 0
    assert as_machine("web-2", host, "once").returncode == 3
    file = host.root / ".updater" / "reply.json"
    kept = json.loads(file.read_text())
    assert kept["renamed"] == "web-2"
    file.write_text(json.dumps(kept | {"renamed_up": kept["renamed_up"] - 3601}))
    assert as_machine("web-2", host, "once").returncode == 0
    assert [report["hostname"] for report in site.reports] == ["web-1", "web-2"]
    assert as_machine("web-2", host, "once").returncode == 0, "and from then on it is its name"


@pytest.mark.long
def test_a_clock_that_is_set_makes_no_hour_of_a_moment(host, site):
    """A machine without its network begins in 1970: the next look is half a century later."""
    assert as_machine("web-1", host, "once").returncode == 0
    assert as_machine("web-2", host, "once").returncode == 3
    file = host.root / ".updater" / "reply.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({key: 0 if key in ("at", "renamed_at") else value for key, value in kept.items()}))
    assert as_machine("web-2", host, "once").returncode == 3
    assert {report["hostname"] for report in site.reports} == {"web-1"}


def test_a_plan_notes_nothing_of_a_new_name(host):
    assert as_machine("web-1", host, "once").returncode == 0
    before = (host.root / ".updater" / "reply.json").read_bytes()
    assert as_machine("web-2", host, "plan").returncode == 3
    assert (host.root / ".updater" / "reply.json").read_bytes() == before


@pytest.mark.long
def test_the_daemon_of_a_host_without_a_name_keeps_its_agents_up_and_reports_once_it_has_one(host, site):
    site.publish(control=QUIET)
    site.desire(("agent", "1"))
    assert as_machine("web-1", host, "once").returncode == 0
    host.control("agent", "stop")
    configure(host, interval=0.2)
    reports = len(site.reports)
    with subprocess.Popen(
        command("localhost", "run", "-c", str(host.config)), stderr=subprocess.PIPE, text=True
    ) as daemon:
        try:
            until("it is kept running", lambda: host.control("agent", "status") == "started")
            assert len(site.reports) == reports
            name_of(daemon.pid, "web-1")
            until("it reports again", lambda: len(site.reports) > reports)
            assert site.reports[-1]["hostname"] == "web-1"
        finally:
            daemon.terminate()
            said = daemon.communicate(timeout=30)[1]
    assert "set hostname in cfg.json" in said


def name_of(pid, name):
    """Give the machine of a process another name, as its DHCP client would."""
    enter = ["nsenter", "-t", str(pid), "-u", sys.executable, "-c", f"import socket; socket.sethostname({name!r})"]
    subprocess.run(enter, check=True)


NOW = 1e9
ORDERS = (Desired("agent", "1", "http://m", cmd="start"),)


def test_how_long_a_machine_has_had_its_name():
    reply = LastReply(NOW, ORDERS, "web-1", "web-2", "b", 500)
    assert reply.seconds_of_name("web-1", Uptime("b", 500)) > 1e9
    assert reply.seconds_of_name("web-2", Uptime("b", 560)) == 60
    assert reply.seconds_of_name("web-2", Uptime("another", 9999)) == 0, "the time before a boot is not known"
    assert reply.seconds_of_name("web-3", Uptime("b", 560)) == 0
    assert LastReply().seconds_of_name("web-1", Uptime("b", 500)) > 1e9, "a reply of an older updater names none"


def test_another_name_is_remembered_over_a_restart_and_forgotten_with_the_next_reply(tmp_path):
    file = tmp_path / "reply.json"
    orders = Orders(file, NOW, Uptime("b", 1))
    orders.keep(ORDERS, NOW, Uptime("b", 1), "web-1")
    orders.note_name("web-2", Uptime("b", 1))
    orders.note_name("web-2", Uptime("b", 9))
    assert Orders(file, NOW, Uptime("b", 1)).last.seconds_of_name("web-2", Uptime("b", 11)) == 10
    again = Orders(file, NOW, Uptime("b", 1))
    again.note_name("web-1", Uptime("b", 12))
    assert Orders(file, NOW, Uptime("b", 1)).last.seconds_of_name("web-2", Uptime("b", 13)) == 0
    again.note_name("web-2", Uptime("b", 20))
    again.note_name("web-2", Uptime("c", 5))
    assert Orders(file, NOW, Uptime("b", 1)).last.seconds_of_name("web-2", Uptime("c", 7)) == 2
    again.keep(ORDERS, NOW + 20, Uptime("c", 21), "web-1")
    assert Orders(file, NOW, Uptime("b", 1)).last.renamed == ""


def test_the_ids_of_machine_and_boot_leave_it_only_as_hashes_that_look_different(host, site):
    assert as_machine("web-1", host, "once").returncode == 0
    report = site.reports[-1]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert report["boot"] == host_name.hashed("boot", boot) != host_name.hashed("machine", boot)
    assert len(report["boot"]) == 16
    assert report.get("machine", "") == host_name.machine()
    assert boot.replace("-", "") not in json.dumps(report)


@pytest.mark.parametrize("text", ["", "uninitialized\n", "x" * 32, "0" * 31])
def test_an_id_that_is_none_is_not_reported(text):
    assert host_name.hashed("machine", text) == ""


def test_one_id_is_one_hash_however_it_is_written():
    assert (
        host_name.hashed("boot", "0A" * 16) == host_name.hashed("boot", "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a\n") != ""
    )
