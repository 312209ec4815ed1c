"""The whole service as it runs: real processes, real signals, a real database."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers import machine
from helpers.meta_server import REPOSITORY, MetaServer, is_alive, meta
from lab.fleet import Late, until
from lab.ports import free_port
from meta.server import OTHER_FILES
from meta.settings import Settings

NEEDED = Settings().max_connections + OTHER_FILES  # files
RECORDS = "agents:\n- {name: a, version: 1.0.0, tarball: http://r/a, overrides: [{prefix: lg-, version: 1.0.1}]}\n"


@pytest.fixture
def records(tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text(RECORDS)
    return file


@pytest.fixture
def server(tmp_path, records):
    (tmp_path / "tarballs").mkdir()
    with MetaServer(tmp_path, records, "--tarballs", "tarballs") as server:
        yield server


def version_for(server: MetaServer, hostname: str) -> str:
    return server.beat(hostname)["desiredAgents"][0]["version"]


def test_it_says_what_it_serves_and_answers(server):
    assert "records.yaml (1 agent), database sqlite:///var/meta.db, tarballs tarballs" in server.said()
    assert (version_for(server, "h1"), version_for(server, "lg-1")) == ("1.0.0", "1.0.1")


def test_a_setting_that_has_gone_away_is_warned_of_and_keeps_nothing_from_starting(tmp_path, records):
    (tmp_path / "meta.yaml").write_text("maxHosts: 7\nelves: conf.properties\npinThreads: true\n")
    with MetaServer(tmp_path, records, "--config", "meta.yaml") as server:
        said = "meta.yaml:2: elves: is no longer a setting and is ignored: `meta elves -c FILE`"
        assert said in server.said()
        assert "meta.yaml:3: pinThreads: is no longer a setting and is ignored: one thread answers" in server.said()
        assert version_for(server, "h1") == "1.0.0"


@pytest.mark.long
def test_a_low_soft_limit_of_open_files_is_raised_to_what_connections_and_parked_hosts_need(server):
    assert server.stop(signal.SIGTERM) == 0
    server.start(open_files=(256, 20_000))
    assert int(open_files_of(server)) == 20_000
    assert "files may be open" not in server.said()
    assert f"at most {20_000 - NEEDED:,} hosts can be parked at once" in server.said()


@pytest.mark.long
def test_a_hard_limit_of_open_files_that_is_too_low_is_told_at_the_start(server):
    assert server.stop(signal.SIGTERM) == 0
    server.start(open_files=(256, 1024))
    assert int(open_files_of(server)) == 1024
    assert f"at most 1024 files may be open, and {NEEDED} are needed" in server.said()
    assert version_for(server, "h1") == "1.0.0"


def open_files_of(server: MetaServer) -> str:
    """Its soft limit."""
    limits = Path(f"/proc/{server.pid}/limits").read_text().splitlines()
    return next(line for line in limits if line.startswith("Max open files")).split()[3]


@pytest.mark.long
@pytest.mark.parametrize(
    ("listen", "hosts"), [(":0", ["127.0.0.1", "::1"]), ("[::]:0", ["127.0.0.1", "::1"]), ("[::1]:0", ["::1"])]
)
def test_it_answers_on_every_interface_and_knows_an_ipv4_address_as_that(tmp_path, records, listen, hosts):
    database = f"sqlite:///{tmp_path / 'var' / 'meta.db'}"
    made = meta("token", "new", "ann", "--role", "admin", "--database", database, directory=tmp_path)
    assert made.returncode == 0, made.stderr
    with MetaServer(tmp_path, records, "--listen", listen) as server:
        for number, host in enumerate(hosts):
            body = json.dumps({"hostname": f"h{number}", "realAgents": []})
            with closing(HTTPConnection(host, urlsplit(server.url).port, timeout=10)) as connection:
                connection.request("POST", "/heartbeat", body)
                assert connection.getresponse().status == 200
        told = server.ask("GET", "/api/v1/hosts", Authorization=f"Bearer {made.stdout.strip()}").json
    assert {one["name"]: one["address"] for one in told["items"]} == {f"h{n}": host for n, host in enumerate(hosts)}


SERVED = """
import sys
from pathlib import Path
from helpers.meta_server import MetaServer
with MetaServer(Path(sys.argv[1]), Path(sys.argv[2]), "--listen", sys.argv[3]) as server:
    print(server.beat("h1")["desiredAgents"][0]["version"])
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("sysctl", "listen", "heard"),
    [
        ("ipv6/conf/all/disable_ipv6=1", ":0", "[::]"),
        ("ipv6/conf/all/disable_ipv6=1", "[::]:0", "[::]"),
        ("ipv6/bindv6only=1", ":0", "0.0.0.0"),
    ],
)
def test_it_is_ready_and_answers_whatever_of_ipv6_is_switched_off(tmp_path, records, sysctl, listen, heard):
    machine.require(machine.no_networks())
    database = f"sqlite:///{tmp_path / 'var' / 'meta.db'}"
    made = meta("token", "new", "ann", "--role", "admin", "--database", database, directory=tmp_path)
    assert made.returncode == 0, made.stderr
    done = subprocess.run(
        [*machine.in_network(sysctl), sys.executable, "-c", SERVED, str(tmp_path), str(records), listen],
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.returncode) == ("1.0.0\n", 0), done.stderr
    assert f"listens on http://{heard}:" in (tmp_path / "meta.log").read_text()


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_heartbeat_just_before_the_stop_is_remembered(server, how):
    server.beat("h1", a="1.0.0")
    assert server.stop(how) == 0
    server.start()
    assert server.ask("GET", "/status/json/a").json["h1"]["version"] == "1.0.0"
    assert "ERROR" not in server.said()


@pytest.mark.long
def test_it_is_kept_up_and_knows_the_hosts(tmp_path, records):
    with MetaServer(tmp_path, records, "--keep-up", "--state-file", "state") as server:
        child = server.child()
        server.beat("h1", a="1.0.0")
        until("the host is written behind", lambda: saved(server))
        os.kill(child, signal.SIGKILL)
        until("another process", lambda: server.child() != child)
        until("it listens", lambda: server.said().count("listens on") == 2)
        server.find()
        assert "h1" in server.ask("GET", "/status/json/a").json
        child = server.child()
        assert server.stop() == 0
        assert not is_alive(child)


def saved(server: MetaServer) -> bool:
    """Whether the database holds a host: read while meta writes, as a backup would."""
    with closing(sqlite3.connect(server.database)) as connection:
        return bool(connection.execute("SELECT 1 FROM host").fetchall())


def test_a_locked_database_holds_up_no_heartbeat(server):
    with closing(sqlite3.connect(server.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        server.beat("h1", a="1.0.0")
        server.beat("h2", a="1.0.0")
        assert set(server.ask("GET", "/status/json/a").json) == {"h1", "h2"}
        other.execute("ROLLBACK")
    until("the hosts are written when the database is free", lambda: saved(server))


@pytest.mark.long
def test_it_does_not_outlive_what_keeps_it_up(tmp_path, records):
    with MetaServer(tmp_path, records, "--keep-up", "--state-file", "state") as server:
        child = server.child()
        server.beat("h1", a="1.0.0")
        server.stop(signal.SIGKILL)
        until("it ends", lambda: not is_alive(child))
        server.start()
        assert "h1" in server.ask("GET", "/status/json/a").json
        assert server.stop() == 0


@pytest.mark.long
def test_after_a_crash_it_goes_on_from_the_database(server):
    server.beat("h1", a="1.0.0")
    until("the host is written behind", lambda: saved(server))
    server.stop(signal.SIGKILL)
    server.start()
    assert "h1" in server.ask("GET", "/status/json/a").json


def test_hangup_reloads_the_records(server, records):
    server.beat("h1", a="1.0.0")
    records.write_text(RECORDS.replace("1.0.0", "2.0.0"))
    os.kill(server.pid, signal.SIGHUP)
    until("the new records are in force", lambda: version_for(server, "h1") == "2.0.0")
    assert server.said().count("listens on") == 1


@pytest.mark.long
def test_reload_reads_an_edited_file(server, records, tmp_path):
    records.write_text(RECORDS.replace("1.0.0", "2.0.0"))
    done = meta("reload", "--url", server.url, directory=tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "reloaded: 1 agent")
    assert version_for(server, "h1") == "2.0.0"
    assert "reloaded: 1 agent, touches no host" in server.said()


@pytest.mark.long
def test_reload_of_a_file_with_errors_leaves_the_former_records_in_force(server, records, tmp_path):
    records.write_text(RECORDS.replace("1.0.0", "2/0/0").replace("prefix", "prefx"))
    done = meta("reload", "--url", server.url, directory=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "meta: not reloaded; the former records stay in force:"
    assert [line.split(": ")[1] for line in done.stderr.splitlines()[1:]] == [
        "agents[0].version",
        "agents[0].overrides[0].prefx",
        "agents[0].overrides[0]",
    ]
    assert version_for(server, "h1") == "1.0.0"


def test_reload_is_refused_to_what_a_proxy_hands_on(server):
    answer = server.ask("GET", "/config/reload", X_Forwarded_For="10.0.0.1")
    assert (answer.status, answer.text) == (403, "no privilege")


@pytest.mark.long
def test_it_starts_again_at_once_where_it_has_just_closed_connections(tmp_path, records):
    with MetaServer(tmp_path, records, "--listen", f"127.0.0.1:{free_port()}") as server:
        assert server.ask("GET", "/health", Connection="close").status == 200  # it closes first
        assert server.ask("GET", "/ready", Connection="close").status == 200
        assert server.stop() == 0
        server.start()
        assert version_for(server, "h1") == "1.0.0"


@pytest.mark.long
def test_a_second_meta_on_the_same_address_is_refused(server, records, tmp_path):
    address = urlsplit(server.url).netloc
    done = meta(
        "serve", "--records", str(records), "--listen", address, "--database", "sqlite:///other.db", directory=tmp_path
    )
    assert (done.returncode, "is in use" in done.stderr) == (1, True)
    assert server.ask("GET", "/health").text == "ok"


@pytest.mark.long
def test_meta_that_cannot_start_again_ends_instead_of_telling_hosts_old_news(server, records):
    server.stop(signal.SIGKILL)
    records.write_text("agents:")
    with pytest.raises(Late, match="meta ended"):
        server.start()
    assert "records.yaml:1: agents: must be a list, not blank" in server.said()


def test_a_file_goes_out_as_it_is(server, tmp_path):
    content = os.urandom(3_000_000)
    (tmp_path / "tarballs/a-1.0.0.tar.gz").write_bytes(content)
    answer = server.ask("GET", "/tarball/a-1.0.0.tar.gz")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/gzip", content)
    assert server.ask("GET", "/tarball/a-1.0.0.tar.gz", Range="bytes=2999990-").body == content[-10:]
    assert server.ask("GET", "/a-1.0.0.tar.gz").status == 404, "no record needs it there"
    assert "/api/v1" in server.ask("GET", "/").text


@pytest.mark.parametrize(
    "path", ["/tarball/../records.yaml", "/%2e%2e/records.yaml", "/..%2frecords.yaml", "//etc/hostname"]
)
def test_a_path_cannot_climb_out_through_the_server(server, path):
    assert server.ask("GET", path).status == 404


@pytest.mark.long
def test_clients_that_do_not_take_their_downloads_stop_no_heartbeat_and_no_other_download(server, tmp_path):
    (tmp_path / "tarballs/big.tar.gz").write_bytes(bytes(30_000_000))
    host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
    stalled = [socket.create_connection((host, port)) for _ in range(200)]
    try:
        for connection in stalled:
            connection.sendall(b"GET /tarball/big.tar.gz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert {connection.recv(12) for connection in stalled} == {b"HTTP/1.1 200"}
        assert version_for(server, "h1") == "1.0.0"
        assert len(server.ask("GET", "/tarball/big.tar.gz").body) == 30_000_000
        assert "meta_downloads 200.0" in server.ask("GET", "/metrics").text
    finally:
        for connection in stalled:
            connection.close()
    until("they are given up", lambda: "meta_downloads 0.0" in server.ask("GET", "/metrics").text)


def test_a_body_over_one_mebibyte_is_refused_with_and_without_a_length(server):
    body = b"x" * 2_000_000
    assert server.ask("POST", "/heartbeat", body).status == 413
    assert server.ask("POST", "/heartbeat", iter([body])).status == 413
    assert version_for(server, "h1") == "1.0.0"


@pytest.mark.long
def test_many_hosts_at_once_are_all_answered_and_remembered(server):
    names = [f"h{i}" for i in range(160)]
    replies: dict[str, str] = {}

    def report(some: list[str]) -> None:
        for name in some:
            replies[name] = server.beat(name, a="1.0.0")["desiredAgents"][0]["version"]

    threads = [threading.Thread(target=report, args=(names[i::16],)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == dict.fromkeys(names, "1.0.0")
    server.stop()
    server.start()
    assert set(server.ask("GET", "/status/json/a").json) == set(names)
