"""Enrolment against a real meta's words on loopback: an enrolment token in, the host's own token on the disk and in use."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time

import pytest

from helpers.agents import QUIET
from helpers.servers import answer, raw, serving
from helpers.site import Site
from lab.fleet import Host, until

SECRET, TOKEN = "ops_e_one-time", "ops_h_of-this-host"
GIVEN = answer(json.dumps({"hostname": "h1", "token": TOKEN}).encode(), "201 Created", "Content-Type: application/json")


@pytest.fixture
def host(tmp_path):
    with Host(tmp_path / "h1", "127.0.0.1:9", hostname="h1", interval=0.3, timeouts={"heartbeat": 2}) as made:
        yield made


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o600)
    return file


def set_config(host, **keys):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | keys))


def updater(host, *arguments, given=""):
    command = [sys.executable, "-m", "updater.cli", *arguments, "-c", str(host.config)]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)


def credentials(host):
    return host.root / ".updater" / "credentials"


def test_a_host_gets_its_own_token_for_one_on_stdin_and_keeps_it_private(host):
    with serving(GIVEN) as server:
        set_config(host, server=server.url)
        done = updater(host, "enrol", given=f"{SECRET}\n")
    assert (done.returncode, done.stdout) == (0, f"h1 is enrolled with {server.url}\n"), done.stderr
    assert credentials(host).read_text() == f"Bearer {TOKEN}\n"
    assert stat.S_IMODE(credentials(host).stat().st_mode) == 0o600
    assert SECRET not in done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    head, _, body = server.requests[0].decode().partition("\r\n\r\n")
    assert head.startswith("POST /api/v1/enrol HTTP/1.1\r\n")
    assert f"Authorization: Bearer {SECRET}\r\n" in head
    assert json.loads(body) == {"hostname": "h1"}


def test_the_token_may_be_in_a_private_file(host, token_file):
    with serving(GIVEN) as server:
        set_config(host, server=server.url)
        assert updater(host, "enrol", "--token-file", str(token_file)).returncode == 0
        token_file.chmod(0o644)
        done = updater(host, "enrol", "--again", "--token-file", str(token_file))
    assert done.returncode == 2
    assert "can be read by others: chmod 600" in done.stderr
    assert len(server.requests) == 1


@pytest.mark.parametrize("given", ["", "\n", "two words", "a\x1bb"])
def test_what_is_no_token_is_not_sent(host, given):
    with serving(GIVEN) as server:
        set_config(host, server=server.url)
        done = updater(host, "enrol", given=given)
    assert (done.returncode, server.requests) == (2, [])
    assert "is no enrolment token" in done.stderr


def test_a_second_enrolment_must_be_meant_and_is_not_made_with_the_old_token(host):
    with serving(GIVEN) as server:
        set_config(host, server=server.url)
        assert updater(host, "enrol", given=SECRET).returncode == 0
        done = updater(host, "enrol", given="another")
        assert done.returncode == 2
        assert "is enrolled already" in done.stderr
        assert len(server.requests) == 1
        assert updater(host, "enrol", "--again", given="another").returncode == 0
    assert b"Authorization: Bearer another\r\n" in server.requests[1]


def problem(status, detail):
    return answer(json.dumps({"title": "no", "status": int(status[:3]), "detail": detail}).encode(), status)


ANSWERS = {
    "unknown": (problem("401 Unauthorized", "no such token"), 2, "no such token (the enrolment token is wrong"),
    "not for it": (problem("403 Forbidden", "not for h1"), 2, "not for this host"),
    "no such thing": (answer(b"404 page", "404 Not Found"), 2, "this meta does not enrol hosts"),
    "taken": (problem("409 Conflict", "h1 has a token already"), 2, "an admin can revoke the host's token"),
    "gone": (problem("410 Gone", "expired"), 2, "expired or is used up: get a new one"),
    "too many": (answer(b"", "429 Too Many Requests", "Retry-After: 7"), 3, "try again in 7 s"),
    "down": (answer(b"", "503 Service Unavailable"), 3, "try again later"),
    "a redirect": (answer(b"", "302 Found", "Location: http://127.0.0.1:9/"), 3, "answered 302"),
    "a portal": (answer(b"<html>log in</html>"), 3, "check that it is meta"),
    "no text": (answer(b'{"token": 5}'), 3, "check that it is meta"),
    "two lines": (answer(b'{"token": "a\\nX: b"}'), 3, "cannot be a token"),
    "too long": (answer(b'{"token": "' + b"a" * 5000 + b'"}'), 3, "cannot be a token"),
}


@pytest.mark.parametrize(("say", "code", "words"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_without_a_token_is_told_with_its_remedy_and_changes_nothing(host, say, code, words):
    with serving(say) as server:
        set_config(host, server=server.url)
        done = updater(host, "enrol", "--within", "0", given=SECRET)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr
    assert not credentials(host).exists()


def secrets_shown(server):
    return [re.search(rb"Idempotency-Key: (\S+)\r\n", request)[1].decode() for request in server.requests]


@pytest.mark.long
def test_a_lost_answer_is_asked_for_again_with_the_same_secret_by_the_next_run_too(host):
    kept = host.root / ".updater" / "enrolment"
    with serving(raw(b""), raw(b""), GIVEN, GIVEN) as server:
        set_config(host, server=server.url)
        assert updater(host, "enrol", "--within", "0", given=SECRET).returncode == 3
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        done = updater(host, "enrol", "--within", "20s", given=SECRET)
        assert (done.returncode, "asking again in" in done.stderr) == (0, True), done.stderr
        assert not kept.exists()
        assert updater(host, "enrol", "--again", given=SECRET).returncode == 0
    first, second, third, another = secrets_shown(server)
    assert first == second == third != another
    assert min(map(len, (first, another))) >= 32
    assert first not in done.stderr + done.stdout


@pytest.mark.long
def test_the_secret_of_another_machine_or_for_another_meta_is_not_sent(host):
    kept = host.root / ".updater" / "enrolment"
    with serving(raw(b""), raw(b"")) as server:
        set_config(host, server=server.url)
        updater(host, "enrol", "--within", "0", given=SECRET)
        begun = json.loads(kept.read_text())
        kept.write_text(json.dumps(begun | {"machine": "0" * 16}))
        updater(host, "enrol", "--within", "0", given=SECRET)
    with serving(raw(b"")) as other:
        set_config(host, server=other.url)
        updater(host, "enrol", "--within", "0", given=SECRET)
    assert len(set(secrets_shown(server) + secrets_shown(other))) == 3


@pytest.mark.long
def test_a_rack_that_is_too_much_at_once_waits_as_long_as_meta_says(host):
    busy = answer(b"", "429 Too Many Requests", "Retry-After: 1")
    with serving(busy, busy, GIVEN) as server:
        set_config(host, server=server.url)
        began = time.monotonic()
        done = updater(host, "enrol", given=SECRET)
    assert (done.returncode, len(server.requests)) == (0, 3), done.stderr
    assert time.monotonic() - began >= 2


def test_what_is_wrong_with_the_enrolment_token_is_not_asked_again(host):
    with serving(problem("401 Unauthorized", "this enrolment token is used up")) as server:
        set_config(host, server=server.url)
        assert updater(host, "enrol", given=SECRET).returncode == 2
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("x" * 501, "it must be one word of 500 characters at most"),
        ("ou_e_x\u00a0\n", "it must be one word, without U+00A0 NO-BREAK SPACE"),
    ],
)
def test_what_no_enrolment_token_can_be_is_not_sent(host, given, said):
    with serving() as server:
        set_config(host, server=server.url)
        done = updater(host, "enrol", given=given)
    assert (done.returncode, said in done.stderr, server.requests) == (2, True, []), done.stderr


@pytest.mark.long
def test_a_token_that_meta_may_know_soon_is_shown_again_for_some_seconds(host):
    unknown = answer(b'{"detail": "this token is not known"}', "401 Unauthorized", "Retry-After: 1")
    with serving(unknown, unknown, GIVEN) as server:
        set_config(host, server=server.url)
        done = updater(host, "enrol", given=SECRET)
    assert (done.returncode, len(server.requests)) == (0, 3), done.stderr
    assert (
        "this token is not known (the enrolment token is wrong: get a new one); a new token may not be known yet"
        in done.stderr
    )
    credentials(host).unlink()
    with serving(*[unknown] * 9) as server:
        set_config(host, server=server.url)
        began = time.monotonic()
        done = updater(host, "enrol", given=SECRET)
        assert (done.returncode, "the enrolment token is wrong" in done.stderr) == (2, True)
        assert time.monotonic() - began < 20  # and not five minutes
        assert 2 <= len(server.requests) <= 5
        asked = len(server.requests)
        assert updater(host, "enrol", "--within", "0", given=SECRET).returncode == 2
    assert len(server.requests) == asked + 1


def test_an_enrolment_that_fails_leaves_the_token_that_works(host):
    with serving(GIVEN, problem("410 Gone", "expired")) as server:
        set_config(host, server=server.url)
        assert updater(host, "enrol", given=SECRET).returncode == 0
        assert updater(host, "enrol", "--again", given=SECRET).returncode == 2
    assert credentials(host).read_text() == f"Bearer {TOKEN}\n"


def test_nobody_there_is_no_fault_of_the_token(host):
    done = updater(host, "enrol", "--within", "0", given=SECRET)
    assert done.returncode == 3
    assert "Connection refused" in done.stderr


@pytest.mark.long
def test_credentials_of_the_configuration_win_and_are_not_enrolled_past(host, token_file):
    token_file.write_text("Bearer configured")
    with serving(answer(b'{"errorMessage":"","desiredAgents":[]}')) as server:
        set_config(host, server=server.url, credentials={server.url: str(token_file)})
        done = updater(host, "enrol", given=SECRET)
        assert done.returncode == 2
        assert "remove them first" in done.stderr
        credentials(host).parent.mkdir()
        credentials(host).write_text(f"Bearer {TOKEN}")
        assert updater(host, "once").returncode == 0
    assert [b"Authorization: Bearer configured\r\n" in request for request in server.requests] == [True]


class Strict(Site):
    """A meta that enrols, and then hears and serves only who shows the token that it gave."""

    def __init__(self, directory):
        self.refused = 0
        super().__init__(directory)
        usual = self._server.RequestHandlerClass

        class Handler(usual):
            def do_POST(handler):
                if handler.path == "/api/v1/enrol":
                    handler.rfile.read(int(handler.headers["Content-Length"]))
                    body = json.dumps({"hostname": "h1", "token": TOKEN}).encode()
                    handler._answer(201, body, "application/json")
                else:
                    handler._guarded(usual.do_POST)

            def do_GET(handler):
                handler._guarded(usual.do_GET)

            def _guarded(handler, do):
                if handler.headers["Authorization"] == f"Bearer {TOKEN}":
                    return do(handler)
                self.refused += 1
                return handler._answer(401, b"who are you?", "text/plain")

        self._server.RequestHandlerClass = Handler


@pytest.fixture
def strict(tmp_path):
    with Strict(tmp_path / "strict") as running:
        yield running


def test_a_running_daemon_shows_the_token_from_its_next_heartbeat_on_and_where_it_downloads(host, strict):
    set_config(host, server=strict.address)
    strict.publish(version="1", control=QUIET)
    strict.desire(("agent", "1"))
    host.start()
    until("it is refused", lambda: strict.refused)
    assert updater(host, "enrol", given=SECRET).returncode == 0
    os.kill(host.pid, signal.SIGUSR1)  # do not wait for the back-off to end
    until("the agent is there", lambda: host.current("agent") == "1")
    assert strict.reports
    assert "updater enrol" in host.log.read_text()


def test_a_reload_that_names_another_meta_has_the_token_shown_there(host, strict):
    host.start()
    until("it has tried", lambda: "no orders in this cycle" in host.log.read_text())
    credentials(host).write_text(f"Bearer {TOKEN}")
    credentials(host).chmod(0o600)
    set_config(host, server=strict.address)
    os.kill(host.pid, signal.SIGHUP)
    until("it beats there", lambda: strict.reports)


@pytest.mark.long
def test_the_commands_say_whether_the_host_is_enrolled(host, strict):
    set_config(host, server=strict.address)
    assert updater(host, "status").stderr.startswith("enrolled: no\n")
    assert updater(host, "enrol", given=SECRET).returncode == 0
    assert f"enrolled: with http://{strict.address}, 2" in updater(host, "status").stderr
    assert updater(host, "status", "--json").stderr == ""
    strict.publish(version="1", control=QUIET)
    strict.desire(("agent", "1"))
    assert updater(host, "once").returncode == 0
    assert f"enrolled   with http://{strict.address}, 2" in updater(host, "why", "agent").stdout


def test_a_netrc_does_not_replace_the_token(host, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login root password hunter2\n")
    (tmp_path / ".netrc").chmod(0o600)
    with serving(GIVEN) as server:
        set_config(host, server=server.url)
        command = [sys.executable, "-m", "updater.cli", "enrol", "-c", str(host.config)]
        environment = os.environ | {"HOME": str(tmp_path)}
        subprocess.run(command, input=SECRET, env=environment, text=True, check=True, timeout=60)
    assert f"Authorization: Bearer {SECRET}\r\n".encode() in server.requests[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_token_that_root_gets_belongs_to_whom_the_updater_runs_as(host):
    own = host.root / ".updater"
    own.mkdir()
    os.chown(own, 1234, 1235)
    with serving(GIVEN) as server:
        set_config(host, server=server.url)
        assert updater(host, "enrol", given=SECRET).returncode == 0
    info = credentials(host).stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (1234, 1235, 0o600)
