"""Runs cases in a few worker processes, and says in one table how many passed.

A class of cases is a module with NAME, PARTS, `cases(world, part)` and `run(world, case)`; a case's full name is
`CLASS:CASE`. What cases there are is found by running each scenario once, so new code is covered without being told of.
"""

import itertools
import multiprocessing
import multiprocessing.util
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

from faults import archives, errnos, kills, longruns, power, reaper, replies, scripts, seen
from faults.world import World

CLASSES: dict[str, ModuleType] = {
    module.NAME: module for module in (kills, seen, errnos, power, archives, replies, scripts, longruns)
}
TITLES = {
    "kill": "kill points",
    "seen": "the shim sees every call",
    "errno": "errno faults",
    "power": "power loss",
    "archive": "archives",
    "http": "answers of servers",
    "control": "control scripts",
    "long": "long runs",
}
WORKERS = 6  # on two cores: a case mostly waits for scripts and sockets
_CHUNK = 8
_TRIES = 3
_SLOW = ("long",)  # one at a time, first

_world: World  # of a worker process


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one case. problems: none when it passed; seconds: of one worker."""

    case: str
    problems: list[str]
    seconds: float


def run(classes: list[str], sample: int, tell: Callable[[str], None], only: Sequence[str] = ()) -> Iterator[Verdict]:
    """All cases of these classes, or every `sample`-th of each; only: the parts of them that are wanted."""
    with multiprocessing.get_context("fork").Pool(WORKERS, _begin) as pool:
        parts = [f"{name}:{part}" for name in classes for part in CLASSES[name].PARTS if not only or part in only]
        found = pool.map(_find, parts, chunksize=1)
        yield from (Verdict(f"{part}:?", [c], 0) for part, c in zip(parts, found, strict=True) if isinstance(c, str))
        found = [[] if isinstance(c, str) else c for c in found]
        for name in classes:
            cases = list(
                itertools.chain(*(c for part, c in zip(parts, found, strict=True) if part.startswith(f"{name}:")))
            )
            cases = cases[sample // 2 :: sample] if len(cases) > sample else cases[: 1 if sample > 1 else None]
            tell(f"{TITLES[name]}: {len(cases)} cases")
            yield from pool.imap_unordered(_judge, cases, 1 if name in _SLOW else _CHUNK)
        pool.close()
        pool.join()


def run_one(case: str) -> Verdict:
    """One case by its full name, in this process."""
    with World.made() as world:
        return _judged(world, case)


def _begin() -> None:
    """In a worker: make its world, and unmake it when the worker ends, also when it is told to or its parent is gone."""
    global _world
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    made = World.made()
    _world = made.__enter__()
    signal.signal(signal.SIGTERM, lambda *_: _world.abandon())
    reaper.end_with_parent()
    multiprocessing.util.Finalize(None, lambda: made.__exit__(None, None, None), exitpriority=16)


def _find(part: str) -> list[str] | str:
    """The cases of a part, or why a run without any fault does not go as the scenario says."""
    name, _, rest = part.partition(":")
    for _ in range(_TRIES):
        try:
            return [f"{name}:{case}" for case in CLASSES[name].cases(_world, rest)]
        except AssertionError as e:
            why = f"without any fault: {e}"
    return why


def _judge(case: str) -> Verdict:
    return _judged(_world, case)


def _judged(world: World, case: str) -> Verdict:
    began = time.monotonic()
    name, _, rest = case.partition(":")
    try:
        problems = list(CLASSES[name].run(world, rest))
    except Exception:  # noqa: BLE001 (not swallowed: it is the case's verdict)
        problems = [f"the case itself broke: {traceback.format_exc(limit=-4)}"]
    finally:
        world.clear()
    return Verdict(case, problems, time.monotonic() - began)


def table(verdicts: list[Verdict], wall: dict[str, float]) -> str:
    """The counts, class by class."""
    lines = [f"{'class':<26}{'cases':>8}{'passed':>8}{'seconds':>9}"]
    names = [name for name in CLASSES if any(v.case.startswith(f"{name}:") for v in verdicts)]
    for name in names:
        own = [v for v in verdicts if v.case.startswith(f"{name}:")]
        passed = sum(not v.problems for v in own)
        lines.append(f"{TITLES[name]:<26}{len(own):>8}{passed:>8}{wall.get(name, 0):>9.1f}")
    passed = sum(not v.problems for v in verdicts)
    lines.append(f"{'all':<26}{len(verdicts):>8}{passed:>8}{sum(wall.values()):>9.1f}")
    if "seen" in names and seen.note():
        lines.append(f"({seen.note()})")
    return "\n".join(lines)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
