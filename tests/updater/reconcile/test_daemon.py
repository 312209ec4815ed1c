"""The daemon as a process: its rhythm, its signals, its lock, its local HTTP, and what it does not do."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from helpers import audited
from helpers.agents import HEALTHY, QUIET, calls, install, script
from helpers.servers import Server, drip
from lab.fleet import Host, get, until
from lab.ports import free_port
from updater import local_api
from updater.host import config
from updater.host.context import Host as Machine
from updater.host.memories import Memories
from updater.kernel import clocks
from updater.model.layout import Layout
from updater.net.http import Http
from updater.reconcile.daemon import Daemon
from updater.service import readiness
from updater.wire.heartbeat import CHANGE


@pytest.fixture
def host(tmp_path, site):
    with Host(
        tmp_path / "h1", site.address, interval=0.1, watch=0, timeouts={"start": 2, "stop": 2, "status": 2}
    ) as made:
        yield made


def configure(host, **settings):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | settings))


def log_of(host):
    return host.log.read_text()


def started(host, version):
    return host.current("agent") == version and host.control("agent", "status") == "started"


@pytest.mark.long
def test_a_hundred_cycles_of_a_converged_host_start_and_write_nothing_but_the_status(host, site, tmp_path):
    for name in ("agent", "other"):
        site.publish(name=name, control=QUIET)
    site.desire(("agent", "1"), ("other", "1"))
    assert host.run("once").returncode == 0
    assert host.run("once").returncode == 0
    site.gets.clear()
    log = tmp_path / "audit.log"
    command = [sys.executable, audited.__file__, str(log), "run", "-c", str(host.config)]
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"interval": 0.01}))
    before = tree(host.root)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        first = len(site.reports)
        until("a hundred cycles", lambda: len(site.reports) - first >= 101, within=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    events = [line.split(" ", 1) for line in log.read_text().splitlines()]
    ran = [arguments for event, arguments in events if event in audited.PROCESSES]
    assert len(ran) >= 200
    assert all("['./control', 'status']" in arguments for arguments in ran)
    assert site.gets == []
    assert [w for w in written(events) if f"{host.root}/agent" in w or f"{host.root}/other" in w] == []
    looks = [number for number, (event, _) in enumerate(events) if event in audited.PROCESSES]
    last = written(
        events[looks[len(looks) // 2] :]
    )  # by then it has told of all that came before, on a busy machine too
    memories = str(host.root / ".updater" / "agents")
    rest = [w for w in last if str(host.root / ".updater" / "state") not in w]
    assert [w for w in rest if memories not in w] == [], "it writes only at its begin and end"
    for name in ("agent", "other"):  # that it has lived there for long is noted once, see Recognised
        assert sum(w.count(f"/{name}.json'") for w in rest) <= 1
    assert tree(host.root) == before


def written(events):
    """What was changed on the disk, by the lines of an audit log."""
    changes = [arguments for event, arguments in events if event == "write" or event in audited.CHANGES]
    return [change for change in changes if "/dev/null" not in change]


def tree(root):
    names = [p for p in sorted(root.rglob("*")) if ".updater" not in p.parts]
    return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_mode, p.lstat().st_ino) for p in names}


def first_line(host):
    return next((line for line in log_of(host).splitlines() if "first cycle in" in line), "")


def first_sleep(host):
    with host.start():
        line = until("it says when it begins", lambda: first_line(host))
    return float(line.partition("first cycle in ")[2].split()[0])


@pytest.mark.long
def test_the_first_sleep_of_a_host_that_meta_knows_is_random_and_within_the_interval(tmp_path, site):
    sleeps = set()
    for number in range(4):
        host = Host(tmp_path / f"h{number}", site.address, interval=1000)
        assert host.run("once").returncode == 0
        sleeps.add(first_sleep(host))
    assert len(sleeps) > 1
    assert all(0 <= sleep < 1000 for sleep in sleeps)
    assert max(sleeps) > 10, "one in ten to the eighth runs has four that are shorter"


@pytest.mark.long
def test_a_host_that_meta_has_never_answered_makes_its_first_cycle_within_ten_seconds(tmp_path, site):
    names = [f"web-{number}" for number in range(3)]
    sleeps = [first_sleep(Host(tmp_path / name, site.address, interval=1000)) for name in names]
    assert all(0 <= sleep < 10 for sleep in sleeps)
    assert len(set(sleeps)) == 3, "not all at once"
    assert first_sleep(Host(tmp_path / names[0], site.address, interval=1000)) == sleeps[0], (
        "the same name, the same time"
    )
    assert site.reports == []


@pytest.mark.long
def test_a_version_that_dies_after_its_start_is_rolled_back_in_its_watch(tmp_path, site):
    dies = HEALTHY.replace("sleep 1000", "sleep 0.7")
    site.publish(version="1")
    site.publish(version="2", control=dies)
    site.desire(("agent", "1"))
    with Host(tmp_path / "h2", site.address, interval=30, watch=20, probe=0.1, timeouts={"start": 2}) as host:
        assert host.run("once").returncode == 0
        site.desire(("agent", "2"))
        assert host.run("once").returncode == 0, "it was started"
        settings = json.loads(host.config.read_text())
        host.config.write_text(json.dumps(settings | {"interval": 1}))
        host.start()
        until("it is back", lambda: started(host, "1"))
        outcome = until("meta hears of it", lambda: [o for o in site.outcomes() if o["result"] == "rolled back"])[0]
    assert (outcome["from"], outcome["to"], outcome["step"]) == ("1", "2", "watch")


def test_a_watch_goes_on_between_cycles_however_few_seconds_orders_count_without_meta(tmp_path, site):
    """They do not count without meta, and meta answers."""
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=QUIET.replace("sleep 1000", "sleep 0.7"))
    site.desire(("agent", "1"))
    settings = {"interval": 3600, "keepOrders": 0, "watch": 60, "probe": 0.1, "timeouts": {"start": 2}}
    with Host(tmp_path / "h2", site.address, **settings) as host:
        assert host.run("once").returncode == 0
        site.desire(("agent", "2"))
        host.start()
        until("it waits for its first cycle", lambda: first_line(host))
        os.kill(host.pid, signal.SIGUSR1)
        until("it switches", lambda: host.current("agent") == "2")
        until("it is back", lambda: started(host, "1"))


def test_term_ends_the_daemon_and_the_agents_run_on(host, site):
    site.publish()
    site.desire(("agent", "1"))
    host.start()
    until("the agent runs", lambda: started(host, "1"))
    assert host.stop(signal.SIGTERM) == 0
    assert host.control("agent", "status") == "started"
    assert "stopped; the agents run on" in log_of(host)


def test_int_ends_the_daemon_too(host):
    host.start()
    until("it runs", lambda: "first cycle" in log_of(host))
    assert host.stop(signal.SIGINT) == 0


def test_a_daemon_that_is_told_to_stop_in_a_switch_finishes_it(host, site):
    slow = HEALTHY.replace("stop)", "stop) touch ../stopping; sleep 1;")
    site.publish(version="1", control=slow)
    site.publish(version="2")
    site.desire(("agent", "1"))
    host.start()
    until("the agent runs", lambda: started(host, "1"))
    site.desire(("agent", "2"))
    until("the old version is being stopped", (host.root / "agent" / "stopping").exists)
    assert host.stop(signal.SIGTERM) == 0
    assert started(host, "2")


def test_cycles_that_take_longer_than_the_interval_follow_orders_all_the_same(host, site):
    slow = HEALTHY.replace("status)", "status) sleep 0.3;")
    assert slow != HEALTHY
    site.publish(version="1", control=slow)
    site.publish(version="2", control=slow)
    site.desire(("agent", "1"))
    host.start()
    until("the first version runs", lambda: started(host, "1"))
    site.desire(("agent", "2"))
    until("the second version runs", lambda: started(host, "2"), within=60)


def test_hup_reads_the_configuration_again(host, site):
    host.start()
    until("it beats", lambda: site.reports)
    settings = json.loads(host.config.read_text())
    host.config.write_text(json.dumps(settings | {"hostname": "renamed"}))
    os.kill(host.pid, signal.SIGHUP)
    until("it beats under its new name", lambda: site.reports[-1]["hostname"] == "renamed")


def test_hup_with_a_broken_configuration_keeps_the_old_one(host, site):
    host.start()
    until("it beats", lambda: site.reports)
    host.config.write_text("{")
    os.kill(host.pid, signal.SIGHUP)
    until("it says so", lambda: "the old configuration stays in force" in log_of(host))
    count = len(site.reports)
    until("it beats on", lambda: len(site.reports) > count + 2)


@pytest.mark.long
def test_a_second_updater_on_the_same_root_says_so_and_leaves(host, site):
    host.start()
    until("it runs", lambda: "first cycle" in log_of(host))
    for command in ("run", "once"):
        second = host.run(command)
        assert second.returncode == 2
        assert f"another updater (pid {host.pid}) works on {host.root}" in second.stderr


def test_a_daemon_that_an_agent_left_behind_does_not_keep_the_lock(host, site):
    site.publish(
        control=script('[ "$1" = start ] && { sleep 1000 & echo $! >pid; }; [ "$1" = status ] && echo started; exit 0')
    )
    site.desire(("agent", "1"))
    assert host.run("once").returncode == 0
    assert host.run("once").returncode == 0


def test_a_meta_that_is_away_is_survived(tmp_path, site):
    with Host(tmp_path / "h3", "127.0.0.1:9", interval=0.1) as host:
        install(host.root, "agent", "1", QUIET)
        host.control("agent", "start")
        host.start()
        until("it tried twice", lambda: log_of(host).count("no orders in this cycle: ") >= 2)
        assert host.control("agent", "status") == "started"
        settings = json.loads(host.config.read_text())
        host.config.write_text(json.dumps(settings | {"server": site.address}))
        os.kill(host.pid, signal.SIGHUP)
        until("it beats when meta is back", lambda: site.reports)


def test_the_local_http_tells_what_the_updater_is_and_sees(host, site):
    site.publish()
    site.desire(("agent", "1"))
    host.start()
    until("it answers", lambda: answers(host.api))
    assert get(f"{host.api}/version").text == "0.1.0"
    assert get(f"{host.api}/workdir").json() == {"msg": "success", "data": str(host.root)}

    def started():
        return [one for one in get(f"{host.api}/agents").json() if one["status"] == "started"]

    [agent] = until("it has seen the agent", started)
    assert (agent["name"], agent["version"]) == ("agent", "1")
    assert get(f"{host.api}/nothing").status_code == 404


def answers(api):
    with contextlib.suppress(OSError):
        return get(f"{api}/health").text == "ok"
    return False


def test_a_reload_over_the_local_http_answers_with_the_configuration_or_the_error(host):
    host.start()
    until("it answers", lambda: answers(host.api))
    assert get(f"{host.api}/config/reload").json()["data"]["interval"] == 0.1
    keep = host.config.read_text()
    host.config.write_text(keep.replace('"interval"', '"intervall"'))
    assert "unknown key" in get(f"{host.api}/config/reload").json()["msg"]
    host.config.write_text(keep)


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        ("10.0.0.1", "no privilege"),
        ("::ffff:10.0.0.1", "no privilege"),
        ("127.0.0.1.example", "no privilege"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
    ],
)
def test_a_reload_is_for_this_machine_alone(host, peer, why):
    daemon = Daemon(Machine(Layout(host.root), config.load(host.config), Http()), host.config)
    route = local_api.routes(daemon)["/config/reload"]
    assert local_api.refusal(route, local_api.Asked(peer, "127.0.0.1:2001"), ()) == why


def ready(host):
    return readiness.announced(host.root / ".updater" / "state")


def test_a_reload_needs_no_http_and_says_how_it_went(host):
    configure(host, http={"enabled": False})
    host.start()
    until("it is ready", ready, host)
    done = host.run("reload")
    assert (done.returncode, done.stdout) == (0, "configuration read again\n")
    configure(host, intervall=1)
    done = host.run("reload")
    assert (done.returncode, done.stdout) == (2, "")
    assert "intervall: unknown key" in done.stderr
    assert log_of(host).count("read again") == 1, "the daemon never heard of the second"


def test_a_reload_speaks_to_its_own_daemon_and_not_to_what_answers_on_the_port(host, tmp_path, site):
    configure(host, http={"enabled": False})
    with Host(tmp_path / "other", site.address, interval=60) as other:
        other.start()
        host.start()
        until("both are ready", lambda: ready(host) and ready(other))
        configure(host, http={"enabled": True, "listen": other.api.removeprefix("http://")})
        done = host.run("reload")
        assert done.returncode == 2
        assert f"cannot listen on {other.api.removeprefix('http://')}" in done.stderr
        assert "the old configuration stays in force" in log_of(host)
        assert "read again" not in other.log.read_text()
        assert answers(other.api)


def listens_at(host, address):
    configure(host, http={"enabled": bool(address), "listen": address or "127.0.0.1:2001"})
    return host.run("reload")


@pytest.mark.parametrize("asked", ["by the command", "over the local HTTP"])
def test_a_shorter_interval_counts_as_soon_as_it_is_read(host, site, asked):
    configure(host, interval=600)
    host.start()  # a new host: its first cycle comes within 10 s
    until("its first cycle", lambda: site.reports)
    configure(host, interval=0.2)
    if asked == "by the command":
        assert host.run("reload").returncode == 0
    else:
        assert get(f"{host.api}/config/reload").json()["msg"] == "success"
    beats(site, 3)


def test_a_shorter_interval_counts_while_meta_is_away(tmp_path, site):
    with Host(tmp_path / "h2", f"127.0.0.1:{free_port()}", interval=600) as host:
        host.start()
        until("meta did not answer", lambda: "the next heartbeat is in" in log_of(host))
        configure(host, interval=0.2, server=site.address)
        assert host.run("reload").returncode == 0
        beats(site, 3)


def test_a_reload_listens_where_the_configuration_says_now_and_nowhere_else(host):
    host.start()
    until("it answers", answers, host.api)
    address = f"127.0.0.1:{free_port()}"
    assert listens_at(host, address).returncode == 0
    assert answers(f"http://{address}")
    assert not answers(host.api)
    other_name = address.replace("127.0.0.1", "localhost")
    assert listens_at(host, other_name).returncode == 0, "the port is its own"
    assert answers(f"http://{other_name}")
    assert listens_at(host, "").returncode == 0
    assert not answers(f"http://{other_name}")
    assert listens_at(host, address).returncode == 0
    assert answers(f"http://{address}")


def test_a_reload_to_an_address_that_another_has_changes_nothing(host):
    host.start()
    until("it answers", answers, host.api)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        done = listens_at(host, address)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the old configuration stays in force: http.listen: cannot listen on {address}" in done.stderr
    assert answers(host.api)
    assert get(f"{host.api}/config/reload").json()["msg"] == "success", "and when the address is free, it goes there"
    assert answers(f"http://{address}")


@pytest.mark.long
def test_a_reload_of_what_was_killed_disturbs_nobody(host):
    host.start()
    said = until("it is ready", ready, host)
    host.stop(signal.SIGKILL)
    assert (host.root / ".updater" / "state").exists()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:  # as if the number had been given again
            file = host.root / ".updater" / "state"
            file.write_text(file.read_text().replace(str(said.pid), str(stranger.pid)))
            assert host.run("reload", timeout=60).returncode == 3
            assert stranger.poll() is None
        finally:
            stranger.kill()


FLAPPING = """#!/bin/sh
# Under a supervisor of its own: each process lives for a moment and leaves a successor, and status says started all the time.
cd "$(dirname "$0")"
case "$1" in
start)
    rm -f stopped
    echo 'sleep 0.3; [ -e stopped ] || sh ./loop >/dev/null 2>&1 &' >loop
    sh ./loop >/dev/null 2>&1 &
    ;;
stop) touch stopped ;;
status) if [ -e stopped ]; then echo stoped; else echo started; fi ;;
esac
"""


@pytest.mark.long
def test_an_agent_that_flaps_under_its_own_supervisor_is_rolled_back(tmp_path, site):
    site.publish(version="1", control=QUIET)
    site.publish(version="2", control=FLAPPING)
    site.desire(("agent", "1"))
    settings = {"watch": 25, "probe": 0.2, "timeouts": {"start": 2, "stop": 3}}
    with Host(tmp_path / "h4", site.address, interval=30, **settings) as host:
        assert host.run("once").returncode == 0
        site.desire(("agent", "2"))
        assert host.run("once").returncode == 0
        host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"interval": 1}))
        host.start()
        until("it is back", lambda: started(host, "1"))
        outcome = until("meta hears of it", lambda: [o for o in site.outcomes() if o["result"] == "rolled back"])[0]
    assert "was started again 3 times within its watch" in outcome["reason"]


@pytest.mark.long
def test_the_end_of_a_watch_that_cannot_be_judged_is_looked_at_once_and_then_each_cycle(tmp_path, site):
    """Its status says neither word then, so the look at its end decides nothing."""
    dumb = HEALTHY.replace("status)", "status) [ -e ../.dumb ] && { echo well; exit; };")
    assert dumb != HEALTHY
    site.publish(version="1", control=dumb)
    site.desire(("agent", "1"))
    with Host(tmp_path / "h9", site.address, interval=3600, watch=8, probe=0.05) as host:
        host.start()
        until("it has been started", lambda: started(host, "1") and memory_of(host).running)
        (host.root / "agent" / ".dumb").touch()
        until("its watch is over", lambda: memory_of(host).watch_is_over(clocks.ran() - 1))
        before, over = len(calls(host.root, "agent")), time.monotonic()
        until("a second has passed", lambda: time.monotonic() > over + 1)
        assert len(calls(host.root, "agent")) == before
        assert memory_of(host).may_be_taken_back(started=False)


def test_a_first_version_that_dies_again_and_again_is_started_at_once_and_then_in_each_cycle(tmp_path, site):
    """Looks at a version on trial are many, and each start would be one more heartbeat."""
    for name in ("agent", "other"):
        site.publish(name, "1")
    site.desire(("agent", "1"), ("other", "1"))
    with Host(tmp_path / "h9", site.address, interval=3600, watch=3600, probe=0.05) as host:

        def starts():
            return calls(host.root, "agent").count("start")

        def dies_after_start(number):
            until("it is started", lambda: starts() == number)
            until("its turn is over", lambda: memory_of(host).restart and not memory_of(host).restart.over)
            os.kill(int((host.root / "agent" / "1" / "pid").read_text()), signal.SIGKILL)

        host.start()
        dies_after_start(1)
        dies_after_start(2)  # it was started again at once, as it may have been an accident
        seen = len(calls(host.root, "other"))
        until("there were many looks at what is on trial", lambda: len(calls(host.root, "other")) > seen + 20)
        assert starts() == 2
        os.kill(host.pid, signal.SIGUSR1)
        until("the next cycle starts it", lambda: starts() == 3)


def memory_of(host):
    return Memories(host.root / ".updater" / "agents").of("agent")


def test_a_report_during_a_turn_says_so_whatever_version_it_names(tmp_path, site):
    """Else meta might take a host for settled that is about to stop what it runs."""
    slow = QUIET.replace("stop) ", "stop) while [ ! -e ../go ]; do sleep 0.05; done; ")
    site.publish(version="1", control=slow)
    site.publish(version="2", control=QUIET)
    site.desire(("agent", "1"))
    with Host(tmp_path / "h7", site.address, interval=0.1, watch=0, timeouts={"stop": 60}) as host:

        def last():
            [agent] = site.reports[-1]["realAgents"]
            return agent["version"], agent["status"], agent.get("waits")

        assert host.run("once").returncode == 0
        host.start()
        until("it is as desired, and waits for nothing", lambda: last() == ("1", "started", None))
        site.desire(("agent", "2"))
        until("it is being stopped", lambda: last() == ("1", "started", CHANGE))
        (host.root / "agent" / "go").touch()
        until("it is as desired again", lambda: last() == ("2", "started", None))


@pytest.mark.long
def test_a_probe_of_a_version_on_trial_is_no_change(tmp_path, site):
    site.publish(version="1", control=QUIET)
    site.desire(("agent", "1"))
    with Host(tmp_path / "h7", site.address, interval=0.1, watch=3600, probe=0.05) as host:
        assert host.run("once").returncode == 0
        host.start()
        count = len(site.reports)
        until("it is probed between reports", lambda: len(site.reports) > count + 10)
    agents = [report["realAgents"][0] for report in site.reports[count:]]
    assert {(agent["trial"], agent.get("waits")) for agent in agents} == {(True, None)}


@pytest.mark.long
def test_a_download_that_takes_long_holds_up_neither_the_heartbeat_nor_the_others(tmp_path, site):
    slow = Server([])
    slow.says = [drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100000, slow.stop, every=0.2)]
    site.publish(name="quick", control=QUIET)
    with slow.running(), Host(tmp_path / "h5", site.address, interval=0.2, timeouts={"download": 60}) as host:
        site.desire(site.entry(name="slow", tarball=slow.url, md5="0" * 32), ("quick", "1"))
        host.start()
        until("the download has begun", lambda: slow.requests)
        until("the other agent runs", lambda: host.current("quick") == "1")
        count = len(site.reports)
        until("the host goes on beating", lambda: len(site.reports) > count + 3)
        assert len(slow.requests) == 1, "and the slow download is not begun again"
        assert host.stop() == 0, "a stop does not wait for it"


@pytest.fixture
def slow_download(host, site):
    """Version 1 of the agent runs, and the host fetches version 2, byte after byte until the test says that all may come."""
    site.publish(control=QUIET)
    site.desire(("agent", "1"))
    assert host.run("once").returncode == 0
    tarball = site.publish(version="2", control=QUIET, more=random.Random(2).randbytes(50_000))
    content, may_end = tarball.path.read_bytes(), threading.Event()

    def held_back(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content))
        for sent in range(len(content)):
            if may_end.is_set() or slow.stop.wait(0.02):
                break
            connection.sendall(content[sent : sent + 1])
        connection.sendall(content[sent:])

    slow = Server([held_back])
    with slow.running():
        site.desire(site.entry(version="2", tarball=slow.url, md5=tarball.md5))
        host.start()
        until("the download has begun", lambda: slow.requests)
        yield may_end
    assert host.running


def pid_of(host, version="1"):
    return (host.root / "agent" / version / "pid").read_text()


def beats(site, count):
    before = len(site.reports)
    until("the host beats", lambda: len(site.reports) >= before + count)


@pytest.mark.parametrize("newest", [[], [("agent", "1")], [("agent", "3")]], ids=["none", "the old one", "a new one"])
def test_an_order_that_is_withdrawn_while_its_version_is_fetched_stops_nothing(host, site, slow_download, newest):
    running = pid_of(host)
    site.publish(version="3", control=QUIET)
    site.desire(*newest)
    until("what goes on is the new order", lambda: "is not ordered any more" in log_of(host))
    beats(site, 2)
    if newest == [("agent", "3")]:
        until("the new order is followed, and does not wait for the download", lambda: started(host, "3"))
    else:
        assert pid_of(host) == running
        assert started(host, "1")
    assert "stop 1 (makes way for 2)" not in log_of(host)
    assert {outcome["to"] for outcome in site.outcomes() if outcome["result"] != "done"} == set()


@pytest.mark.long
def test_an_updater_that_is_stopped_while_it_fetches_reports_no_failure(host, site, slow_download):
    assert host.stop() == 0
    slow_download.set()
    host.start()
    until("the new run fetches it", lambda: started(host, "2"))
    until("it is reported", lambda: any(outcome["to"] == "2" for outcome in site.outcomes()))
    assert [outcome["result"] for outcome in site.outcomes() if outcome["to"] == "2"] == ["done"]


@pytest.mark.long
def test_an_agent_that_a_person_holds_while_a_version_is_fetched_is_left_as_it_is(host, site, slow_download):
    assert host.run("hold", "agent", "--why", "debugging").returncode == 0
    slow_download.set()
    until("the version is there", lambda: (host.root / "agent/2/control").exists())
    beats(site, 3)
    assert started(host, "1")
    assert host.run("unhold", "agent").returncode == 0
    until("then it goes on", lambda: started(host, "2"))


def test_what_died_while_the_next_version_was_fetched_is_replaced_all_the_same(host, site, slow_download):
    host.control("agent", "stop")
    slow_download.set()
    until("the next version runs", lambda: started(host, "2"))


NEVER_UP = script(
    'case "$1" in status) echo stoped ;; start) until [ -e ../../may-end ]; do sleep 0.02; done; exit 1 ;; esac'
)


@pytest.mark.long
@pytest.mark.parametrize("newest", [[], [("agent", "1")]], ids=["none", "the old one"])
def test_a_way_back_goes_to_its_end_though_the_order_was_withdrawn_meanwhile(tmp_path, site, newest):
    timeouts = {"start": 8, "stop": 2, "status": 2}
    with Host(tmp_path / "h1", site.address, interval=0.2, watch=0, timeouts=timeouts) as host:
        site.publish(control=QUIET)
        site.desire(("agent", "1"))
        assert host.run("once").returncode == 0
        site.publish(version="2", control=NEVER_UP)
        site.desire(("agent", "2"))
        host.start()
        until("the new version is being started", lambda: "start 2" in log_of(host))
        site.desire(*newest)
        beats(site, 2)
        (host.root / "may-end").touch()
        until("the old version runs", lambda: started(host, "1"), within=60)


def test_while_meta_is_away_an_agent_that_dies_is_started_again(host, site):
    site.publish(control=QUIET)
    site.desire(("agent", "1"))
    assert host.run("once").returncode == 0
    settings = json.loads(host.config.read_text())
    host.config.write_text(json.dumps(settings | {"server": "127.0.0.1:9"}))
    host.start()
    until("meta is away", lambda: "nothing else is changed" in log_of(host))
    host.control("agent", "stop")
    until("it is started again", lambda: started(host, "1"))


def test_orders_that_are_too_old_start_nothing(host, site):
    site.publish(control=QUIET)
    site.desire(("agent", "1"))
    assert host.run("once").returncode == 0
    host.control("agent", "stop")
    settings = json.loads(host.config.read_text())
    host.config.write_text(json.dumps(settings | {"server": "127.0.0.1:9", "keepOrders": 0}))
    host.start()
    until("it has looked twice", lambda: log_of(host).count("no orders are in force") >= 2)
    assert host.control("agent", "status") == "stoped"
    said = host.run("why", "agent").stdout
    assert "waits      meta's orders are older than keepOrders" in said and "next " not in said
    assert log_of(host).count("meta's orders are older than keepOrders") == 1


def test_heartbeats_to_a_meta_that_is_away_grow_rare(tmp_path):
    with Host(tmp_path / "h6", "127.0.0.1:9", interval=0.05) as host:
        host.start()
        waits = until("it has tried often", lambda: waits_in(log_of(host), 7))
    assert all(wait <= 0.05 * 8 for wait in waits)


def waits_in(log, count):
    """The pauses that the log tells, once there are so many; in seconds, rounded as the log has them."""
    waits = [
        float(line.rpartition("the next heartbeat is in ")[2].split()[0])
        for line in log.splitlines()
        if "is in" in line
    ]
    return waits if len(waits) >= count else []
