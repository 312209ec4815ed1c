"""The word of a status in what real scripts print: the kinds are those of public bug reports, each by its own test id."""

import pytest

from helpers.agents import install, script
from lab.fleet import end_all_of
from updater.host import control_script, status_words
from updater.model.observed import State

# What is printed -> what a person at a terminal reads in the last line.
SAID = {
    "a warning before it": ("WARN: JAVA_HOME is not set\nstarted\n", "started"),
    "blank lines after it": ("started\n\n \t\n\n", "started"),
    "CRLF": ("started\r\n", "started"),
    "green": ("\x1b[32mstarted\x1b[0m\n", "started"),
    "256 colours": ("\x1b[38;5;46m\x1b[1mstoped\x1b[m\n", "stoped"),
    "RGB with colons": ("\x1b[38:2::0:255:0mstarted\x1b[0m", "started"),
    "each letter coloured": ("".join(f"\x1b[3{n}m{c}\x1b[0m" for n, c in enumerate("started")), "started"),
    "tput sgr0 of xterm": ("\x1b[32mstarted\x1b(B\x1b[m\n", "started"),
    "tput sgr0 of screen": ("\x1b[32mstarted\x1b[m\x0f\n", "started"),
    "colours turned off on a line of their own": ("\x1b[32mstarted\n\x1b[0m\n", "started"),
    "a spinner": ("checking |\rchecking /\r\x1b[Kstarted\n", "started"),
    "the column of init functions": ("Checking agent: \x1b[60G\x1b[0;39m\r\nstarted\n", "started"),
    "a window title": ("\x1b]0;my-agent\x07started\n", "started"),
    "a window title, the other end": ("\x1b]2;my-agent\x1b\\started\n", "started"),
    "a byte order mark": ("\ufeffstarted\n", "started"),
    "a bell": ("started\x07\n", "started"),
    "NULs": ("\0\0started\0\n", "started"),
    "a blank that is none of ASCII": ("\u00a0started\u00a0\n", "started"),
    "another word after it": ("started\n(pid 4711)\n", "(pid 4711)"),
    "both words on two lines": ("stoped\nstarted\n", "started"),
    "both words on one": ("started stoped\n", "started stoped"),
    "a word within a line": ("agent is started\n", "agent is started"),
    "nothing": ("", ""),
    "nothing but colours": ("\x1b[0m\n\x1b[0m\r\n", ""),
}


@pytest.mark.parametrize(("printed", "line"), SAID.values(), ids=SAID.keys())
def test_the_last_line_that_is_not_blank_is_what_was_said(printed, line):
    assert status_words.last_line(printed) == line


def test_a_status_that_is_none_shows_what_came_on_stderr_and_stays_short():
    assert status_words.with_evidence("", "usage: ps\nTry 'ps --help'\n", 300) == "nothing (stderr: Try 'ps --help')"
    assert status_words.with_evidence("running", "", 300) == "running"
    assert len(status_words.with_evidence("x" * 5000, "y" * 5000, 300)) <= 300


@pytest.fixture
def asked(tmp_path):
    def ask(text):
        return control_script.status(install(tmp_path, "agent", "1", text), 5)

    yield ask
    end_all_of(tmp_path)


def test_what_is_printed_on_stderr_beside_the_word_does_no_harm(asked):
    """In the manner of scripts that ask `ps -p $(cat pid)` of an empty pid file."""
    said = asked(script("ps -p $(cat /dev/null) >/dev/null; echo stoped"))
    assert (said.state, said.text) == (State.STOPPED, "stoped")


def test_a_word_on_stderr_is_evidence_and_no_status(asked):
    said = asked(script("echo started >&2"))
    assert (said.state, said.text) == (State.UNKNOWN, "nothing (stderr: started)")


def test_a_word_on_stdout_counts_whatever_comes_on_stderr_after_it(asked):
    assert asked(script("echo started; echo stoped >&2")).state is State.STARTED


def test_a_flood_on_stdout_is_no_status(asked):
    assert asked(script("exec yes started")).text == "exec `./control status` fail: printed more than 1 MiB"


def test_what_prints_on_stderr_for_ever_has_the_time_of_a_status_and_no_more(asked):
    assert asked(script("yes >&2 & exec yes warning >&2")).text == "exec `./control status` fail: timed out after 5 s"


def test_much_on_stderr_is_no_flood_and_its_last_line_is_the_evidence(asked):
    said = asked(script("seq 1 20000 >&2; echo the end >&2; echo maybe"))
    assert said.text == "maybe (stderr: the end)"


def test_a_helper_that_keeps_stderr_open_does_not_hold_us(asked):
    assert asked(script("sleep 1000 >/dev/null & echo started")).state is State.STARTED


def test_the_script_of_the_field_with_an_empty_pid_file_is_understood(asked):
    said = asked(
        """#!/bin/bash
cd "$(dirname "$0")"; mkdir -p var; : >var/app.pid
alive() {
  [ -f var/app.pid ] || return 1
  p=$(cat var/app.pid); [ -n $p ] && [ "$(ps -p $p | grep -v 'PID TTY' | wc -l)" -gt 0 ]
}
if alive; then echo started; else echo stoped; fi
"""
    )
    assert said.state is State.STOPPED
