"""What a person sees: questions, colours, and a watch that ends by itself or by Ctrl-C; and what a shell completes."""

import json
import re
import time

import pytest

ESC = "\x1b["


@pytest.fixture
def boss(server, boss):
    """A person of one meta. In every test the record and its two hosts are as here first."""
    boss("set", "falcon", "version=1.0.0", "tarball=http://r.example/falcon", "md5=", "--yes")
    for host in ("web-1", "web-2"):
        server.beat(host, falcon="1.0.0")
    return boss


@pytest.mark.long
def test_a_change_that_touches_hosts_is_asked_for(boss):
    words = ("set", "falcon", "md5=http://r.example/falcon")
    with boss.terminal(*words) as terminal:
        terminal.expect("This changes falcon on 2 hosts. Continue? [y/N]: ")
        assert 'falcon: md5 "" -> http://r.example/falcon' in terminal.seen
        terminal.type("\n")
        terminal.expect("meta: nothing was changed")
        assert terminal.end() == 1
    assert boss.json("get", "falcon")["md5"] == ""
    with boss.terminal(*words) as terminal:
        terminal.expect("Continue? [y/N]: ")
        terminal.type("y\n")
        terminal.expect("done: revision ")
        assert terminal.end() == 0
    assert boss.json("get", "falcon")["md5"] == "http://r.example/falcon"


def test_what_touches_no_host_is_not_asked_for(boss):
    with boss.terminal("set", "falcon", "version=3.0.0", "--for", "hosts:nobody") as terminal:
        terminal.expect("done: revision ")
        assert terminal.end() == 0


def test_colours_are_for_terminals_that_want_them(boss):
    with boss.terminal("hosts") as terminal:
        terminal.expect("web-2")
        terminal.end()
        assert ESC in terminal.seen
        assert " ago " in terminal.seen or " now " in terminal.seen
    with boss.terminal("hosts", NO_COLOR="1") as terminal:
        terminal.expect("web-2")
        terminal.end()
        assert f"{ESC}3" not in terminal.seen
    assert ESC not in boss("hosts")


def test_a_host_is_one_line_at_a_hundred_columns_and_what_drifts_is_not_cut_off(server, boss):
    with_many = {f"a-long-agent-name-{number}": "1.0.0" for number in range(9)}
    server.beat("a-host-with-a-name-of-thirty-four-c", **with_many, falcon="0.9.0")  # reported last
    boss("label", "a-host-with-a-name-of-thirty-four-c", "environment=staging", "rack=r7", "--yes")
    with boss.terminal("hosts", "--name", "a-host-*", COLUMNS="100") as terminal:
        assert terminal.end() == 0
    boss("retire", "a-host-with-a-name-of-thirty-four-c")  # the other tests know nothing of it
    heads, host, *rest = re.sub(r"\x1b\[[0-9;]*m", "", terminal.seen).splitlines()
    assert rest == []
    assert "labels" not in heads
    assert heads.split()[:2] == ["host", "state"]
    assert len(host) <= 100
    assert host.startswith("a-host-with-a-name-of-thirty-four-c ")
    assert "  falcon 0.9.0 -> 1.0.0, a-long-agent-name-0 1" in host


def test_a_watch_goes_on_until_every_host_is_as_desired(server, boss):
    boss("set", "falcon", "version=1.0.1", "--yes")
    with boss.terminal("status", "falcon", "--watch", "--every", "0.2") as terminal:
        terminal.expect("2 to do")
        server.beat("web-1", falcon="1.0.1", trial=True)
        terminal.expect("1 to do, 1 on trial")
        server.beat("web-1", falcon="1.0.1", trial=False)
        terminal.expect("1 to do, 1 good")
        server.beat("web-2", falcon="1.0.1", trial=False)
        terminal.expect("every host is as desired")
        assert terminal.end() == 0


def test_a_watch_ends_by_ctrl_c_and_shows_why_hosts_failed(server, boss):
    boss("set", "falcon", "version=1.0.2", "--yes")
    outcome = {"agent": "falcon", "from": "1.0.1", "to": "1.0.2", "step": "watch", "result": "rolled back", "at": 5}
    report = {"hostname": "web-1", "realAgents": [{"name": "falcon", "version": "1.0.1", "status": "started"}]}
    server.ask("POST", "/heartbeat", json.dumps(report))  # this is how it hears of the order
    server.ask("POST", "/heartbeat", json.dumps(report | {"outcomes": [outcome | {"reason": "died\x1b[2J [red]x"}]}))
    with boss.terminal("status", "falcon", "--watch", "--every", "0.2") as terminal:
        terminal.expect("1 failed")
        terminal.expect(r"died\u001b[2J [red]x")
        terminal.interrupt()
        assert terminal.end() == 130
    assert f"died{ESC}2J" not in terminal.seen


@pytest.mark.parametrize("moment", [number / 20 for number in range(10)])
def test_ctrl_c_ends_a_watch_whenever_it_comes(server, boss, moment):
    server.beat("web-1", falcon="0.9.0")
    with boss.terminal("status", "falcon", "--watch", "--every", "0.1") as terminal:
        terminal.expect("to do")
        time.sleep(moment)  # into another part of its look, or between two looks
        terminal.interrupt()
        assert terminal.end() == 130
    hidden, shown = (terminal.seen.rfind(f"{ESC}?25{end}") for end in "lh")
    assert hidden <= shown, "the terminal has its cursor again"


@pytest.mark.long
def test_the_shell_completes_agents_and_hosts(server, boss):
    server.beat("shell-1", shell="1.0.0")

    def completed(line):
        words = line.split(" ")
        asked = {"_META_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        done = boss.run(**asked)
        return [one.partition(",")[2] for one in done.stdout.splitlines() if one]

    assert completed("meta get fa") == ["falcon"]
    assert completed("meta host web") == ["web-1", "web-2"]
    assert completed("meta explain nobody") == []
    assert completed("meta set shell v") == ["version="]
    assert completed("meta set shell version=1.0") == ["version=1.0.0"]
    assert completed("meta set shell version = 1.0") == ["1.0.0"]  # as bash takes it apart
    assert completed("meta set shell cmd=st") == ["cmd=start", "cmd=stop"]
    assert completed("meta set shell leftovers=") == ["leftovers=leave", "leftovers=end"]
    assert completed("meta set shell unknownStatus=u") == ["unknownStatus=upgrade"]
    assert completed("meta set shell version=2 --for ") == ["prefix:", "glob:", "hosts:", "label:"]
    assert completed("meta set shell version=2 --for hosts:web-1,w") == ["hosts:web-1,web-1", "hosts:web-1,web-2"]
    assert completed("meta unset shell m") == ["md5"]
    assert completed("meta ban shell 1") == ["1.0.0"]
    assert completed("meta hosts --agent shell --version 1.") == ["1.0.0"]
    assert "history" in completed("meta h")
    boss("retire", "shell-1")  # the other tests know nothing of it
