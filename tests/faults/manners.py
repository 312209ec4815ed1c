"""Control scripts of the field that a host must take as they are meant: how they print a status, what of them cannot run, and
what they may inherit. Part of class 7.

`spoken`: the word stands in the last line, as a terminal shows it: the host upgrades to such a script and away from it.
`unspoken`: it does not, so what runs is left alone. `form`: no kernel runs it, so it is refused before anything is stopped.
`inherits`: the script starts only in the surroundings that every agent is promised.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from faults import goods
from faults.scenarios import SCENARIOS, A
from faults.world import World

PARTS = ("spoken", "unspoken", "form", "inherits")
_UPGRADE = SCENARIOS["upgrade"]
_STATUS = '[ "$up" ] && echo started || echo stoped'

# How the word is printed; $word is it.
_SPOKEN = {
    "CRLF": r"printf '%s\r\n' $word",
    "without an end": "printf %s $word",
    "blank lines behind it": r"printf '%s\n\n \t\n' $word",
    "after a warning": "echo WARNING: JAVA_HOME is not set; echo $word",
    "after the other word": "echo was started and stoped; echo stoped; echo started; echo $word",
    "green": r"printf '\033[32m%s\033[0m\n' $word",
    "256 colours": r"printf '\033[38;5;46m%s\033[m' $word",
    "colours ended on the next line": r"printf '\033[32m%s\n\033[0m\n' $word",
    "tput sgr0": r"printf '\033[1m%s\033(B\033[m\017' $word",
    "a spinner": r"printf 'checking |\rchecking /\r\033[K%s\n' $word",
    "init functions": r"printf 'Checking agent:\033[60G[  OK  ]\r\n%s\n' $word",
    "a title": r"printf '\033]0;agent\007%s\n' $word",
    "a byte order mark": r"printf '\357\273\277%s\n' $word",
    "NULs": r"printf '\000%s\000\n' $word",
    "usage on stderr": "echo 'error: process ID list syntax error' >&2; echo $word; echo 'Usage: ps [options]' >&2",
    "the other word on stderr": "echo started >&2; echo stoped >&2; echo $word",
    "much on stderr": "n=0; while [ $n -lt 2000 ]; do echo noise >&2; n=$((n+1)); done; echo $word",
    "an exit code": "echo $word; exit 3",
    "stopped with two p": "[ $word = stoped ] && word=stopped; echo $word",
}
_UNSPOKEN = {
    "on stderr alone": "echo $word >&2",
    "with a line behind it": "echo $word; echo pid $pid",
    "within a line": "echo agent is $word",
    "with a number": "echo $word $pid",
    "in capitals": "echo STARTED",
    "colours alone": r"printf '\033[32m\033[0m\n'",
}
_FORMS = {
    "no first line": goods.CONTROL.partition("\n")[2],
    "a blank line first": "\n" + goods.CONTROL,
    "a blank in it": goods.CONTROL.replace("#!", "# !", 1),
    "no exclamation mark": goods.CONTROL.replace("#!", "#", 1),
    "CRLF": goods.CONTROL.replace("\n", "\r\n"),
    "CRLF behind an option": goods.CONTROL.replace("#!/bin/sh", "#!/bin/sh -e\r", 1),
    "a byte order mark": "\ufeff" + goods.CONTROL,
    "no interpreter": goods.CONTROL.replace("/bin/sh", "", 1),
    "a missing interpreter": goods.CONTROL.replace("/bin/sh", "/nonexistent/sh", 1),
    "an interpreter that env does not find": goods.CONTROL.replace("/bin/sh", "/usr/bin/env no-such-sh", 1),
    "env with an option": goods.CONTROL.replace("/bin/sh", "/usr/bin/env sh -e", 1),
    "a directory for an interpreter": goods.CONTROL.replace("/bin/sh", "/", 1),
    "an archive": "PK\3\4" + goods.CONTROL,
    "nothing": "",
}
# What start asks of its surroundings, and what the updater itself has.
_WITHHELD = (
    "META_TOKEN",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
)
_MASKS = (
    "while read -r key mask _; do case $key in SigIgn:|SigBlk:) [ $mask = 0000000000000000 ] || exit 1 ;; esac; done"
)


@contextmanager
def _variables(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _ignoring(*numbers: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_OWN_PATH = f"{sys.prefix}/bin:{os.environ.get('PATH', os.defpath)}"
_INHERITS: dict[str, tuple[str, Callable[[], object]]] = {
    **{name: (f'[ -z "${{{name}+x}}" ]', lambda name=name: _variables(**{name: "1"})) for name in _WITHHELD},
    "our own programs": (
        f'case ":$PATH:" in *":{sys.prefix}/bin:"*) exit 1 ;; esac',
        lambda: _variables(PATH=_OWN_PATH),
    ),
    "a proxy": ('[ "$HTTPS_PROXY" = http://p:3128 ]', lambda: _variables(HTTPS_PROXY="http://p:3128")),
    "what the root sets": ('[ "$META_OF_AGENTS" = yes ]', _variables),
    "umask": ('[ "$(umask)" = 0022 ]', lambda: _umask(0o077)),
    "signals": (f"{_MASKS} </proc/self/status", lambda: _ignoring(signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2)),
}

_KINDS = {"spoken": _SPOKEN, "unspoken": _UNSPOKEN, "form": _FORMS, "inherits": _INHERITS}


def cases(part: str) -> list[str]:
    return [f"{part}:{name}" for name in _KINDS[part]]


def run(world: World, case: str) -> list[str]:
    """What is wrong with a host that gets such a script as version 2, and a usual one as version 3."""
    part, name = case.split(":", 1)
    world.begin(_UPGRADE)
    with world.impatient(seconds=3):
        return {"spoken": _spoken, "unspoken": _unspoken, "form": _form, "inherits": _inherits}[part](world, name)


def _saying(how: str) -> str:
    return goods.CONTROL.replace(_STATUS, f'word=stoped; [ "$up" ] && word=started; {how}')


def _spoken(world: World, name: str) -> list[str]:
    return _upgraded(world, "2", _saying(_SPOKEN[name])) or _at_rest(world) or _upgraded(world, "3", goods.CONTROL)


def _unspoken(world: World, name: str) -> list[str]:
    """Version 1, which runs, begins to speak so."""
    (world.root / A / "1" / "control").write_text(_saying(_UNSPOKEN[name]).replace("@", "1"))
    before = {daemon.pid for daemon in world.daemons()}
    world.order(_UPGRADE)
    done = world.once()
    problems = [] if "is left alone" in done.output else [f"not said to be left alone: {done.output[-300:]}"]
    return problems + ([] if {daemon.pid for daemon in world.daemons()} == before else ["what runs was not left alone"])


def _form(world: World, name: str) -> list[str]:
    before = {daemon.pid for daemon in world.daemons()}
    publish(world, "2", _FORMS[name])
    done = world.once()
    problems = [] if "control of 2 cannot run: " in done.output else [f"the reason is not told: {done.output[-300:]}"]
    if "Traceback" in done.output or done.code != 1:
        problems.append(f"ended with {done.code}: {done.output[-300:]}")
    if _version(world) != "1" or {daemon.pid for daemon in world.daemons()} != before:
        problems.append("version 1 was touched")
    if (world.root / A / "2").exists():
        problems.append("version 2 was installed")
    return problems or _upgraded(world, "3", goods.CONTROL)


def _inherits(world: World, name: str) -> list[str]:
    asks, around = _INHERITS[name]
    (world.root / "environment").write_text("META_OF_AGENTS=yes\n")
    with around():  # type: ignore[attr-defined]
        problems = _upgraded(world, "2", goods.CONTROL.replace("start) ", f"start) {asks} || exit 1; "))
    (world.root / "environment").unlink()
    return problems


def _upgraded(world: World, version: str, control: str) -> list[str]:
    publish(world, version, control)
    done = world.once()
    up = [daemon.where.name for daemon in world.daemons()]
    if done.code == 0 and up == [version] and _version(world) == version:
        return []
    return [f"{version} does not run: {up} do; ended with {done.code}: {done.output[-300:]}"]


def _at_rest(world: World) -> list[str]:
    before = {daemon.pid for daemon in world.daemons()}
    done = world.once()
    return (
        [] if done.code == 0 and {daemon.pid for daemon in world.daemons()} == before else ["a second cycle changed it"]
    )


def _version(world: World) -> str:
    return (world.root / A / ".version").read_text().strip()


def publish(world: World, version: str, control: str) -> None:
    """Publish a version with this control, and desire it."""
    directory = world.site.files / "scripted"
    directory.mkdir(exist_ok=True)
    goods.publish(directory, A, version, control)
    world.site.desire(world.site.entry(A, version, tarball=f"{world.site.url}/scripted"))
