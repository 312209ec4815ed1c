"""Runs cases in a few worker processes, and says in one table how many passed.

A class of cases is a module with NAME, PARTS, `cases(world, part)` and `run(world, case)`; a case's full name is
`CLASS:CASE`. What cases there are is found by running each scenario once, so new code is covered without being told of.
"""

import multiprocessing
import multiprocessing.util
import os
import queue
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.pool import AsyncResult, Pool
from pathlib import Path
from types import ModuleType

from faults import archives, errnos, kills, longruns, power, reaper, replies, scripts, seen
from faults.world import World, quick_directory

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
WORKERS = 8  # on two cores: a case mostly waits for scripts and sockets
_TRIES = 3
_AT_ONCE = {"long": 1, "seen": 1, "control": 1, "http": 1}  # cases that a worker takes at a time; of the others:
_USUALLY = 8
# What may be judged first is what is found at once; to find the others costs as much as to judge some hundred cases, and is
# done meanwhile. The long runs come before all, since none of them can be shared.
_WAVES = (("long",), ("kill", "seen", "errno", "archive", "http", "control"), ("power",))

_world: World  # of a worker process


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one case. problems: none when it passed; seconds: of one worker; cpu: seconds of all its processes."""

    case: str
    problems: list[str]
    seconds: float = 0.0
    cpu: float = 0.0


def run(
    classes: list[str], sample: int, tell: Callable[[str], None], only: Sequence[str] = (), seed: str = ""
) -> Iterator[Verdict]:
    """All cases of these classes, or one in `sample` of each, which seed chooses ("": every `sample`-th); only: their parts
    that are wanted."""
    with (
        tempfile.TemporaryDirectory(prefix="faults-", dir=quick_directory()) as shared,
        multiprocessing.get_context("fork").Pool(WORKERS, _begin, (Path(shared),)) as pool,
    ):
        verdicts: queue.SimpleQueue[list[Verdict]] = queue.SimpleQueue()
        left = 0
        waves = [[name for name in wave if name in classes] for wave in _WAVES]
        finds = [_finds(pool, waves[0], only)]
        for number, wave in enumerate(waves):
            if number + 1 < len(waves):  # found while the cases of this wave are judged
                finds.append(_finds(pool, waves[number + 1], only))
            chunks = []
            for name in wave:
                cases, failed = _found(name, finds[number])
                yield from failed
                cases = sampled(cases, sample, seed)
                tell(f"{TITLES[name]}: {len(cases)} cases")
                chunks.append(_chunks(name, cases))
            for chunk in _mixed(chunks):
                pool.apply_async(_judge, (chunk,), callback=verdicts.put, error_callback=_give_up)
                left += 1
        for _ in range(left):
            yield from verdicts.get()
        pool.close()
        pool.join()


def _finds(pool: Pool, classes: list[str], only: Sequence[str]) -> dict[str, AsyncResult[list[str] | str]]:
    """Have the cases of all parts found, those first that take longest."""
    return {
        f"{name}:{part}": pool.apply_async(_find, (f"{name}:{part}",))
        for name in classes
        for part in sorted(CLASSES[name].PARTS, key=lambda part: power.KILLED not in part)
        if not only or part in only
    }


def _found(name: str, finds: Mapping[str, AsyncResult[list[str] | str]]) -> tuple[list[str], list[Verdict]]:
    """The cases of a class, and a verdict for each part of it that does not even go well without faults."""
    answers = {part: find.get() for part, find in finds.items() if part.startswith(f"{name}:")}
    failed = [Verdict(f"{part}:?", [answer]) for part, answer in answers.items() if isinstance(answer, str)]
    return [case for answer in answers.values() if not isinstance(answer, str) for case in answer], failed


def sampled(cases: list[str], step: int, seed: str = "") -> list[str]:
    """Every `step`-th, or so many that the seed chooses, in their order; but one at least."""
    if seed and step > 1 and cases:
        chosen = random.Random(f"{seed} {cases[0]}").sample(range(len(cases)), max(1, len(cases) // step))
        return [cases[at] for at in sorted(chosen)]
    return cases[step // 2 :: step] if len(cases) > step else cases[: 1 if step > 1 else None]


def _chunks(name: str, cases: list[str]) -> list[list[str]]:
    size = _AT_ONCE.get(name, _USUALLY)
    return [cases[at : at + size] for at in range(0, len(cases), size)]


def _mixed(lists: list[list[list[str]]]) -> list[list[str]]:
    """All chunks, each list's spread over the whole: so cases that wait run beside cases that compute."""
    placed = [(at / len(chunks), chunk) for chunks in lists for at, chunk in enumerate(chunks)]
    return [chunk for _, chunk in sorted(placed)]


def run_one(case: str) -> Verdict:
    """One case by its full name, in this process."""
    with World.made() as world:
        return _judged(world, case)


def _begin(shared: Path) -> None:
    """In a worker: make its world, and unmake it when the worker ends, also when it is told to or its parent is gone."""
    global _world
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    made = World.made(shared)
    _world = made.__enter__()
    signal.signal(signal.SIGTERM, lambda *_: _world.abandon())
    reaper.end_with_parent()
    multiprocessing.util.Finalize(None, lambda: made.__exit__(None, None, None), exitpriority=16)


def _give_up(error: BaseException) -> None:
    """Called in a thread of the pool: a worker that cannot answer is a defect of the suite."""
    progress(f"the suite itself broke: {error!r}")
    os._exit(3)


def _find(part: str) -> list[str] | str:
    """The cases of a part, or why a run without any fault does not go as the scenario says."""
    name, _, rest = part.partition(":")
    for _ in range(_TRIES):
        try:
            return [f"{name}:{case}" for case in CLASSES[name].cases(_world, rest)]
        except AssertionError as e:
            why = f"without any fault: {e}"
    return why


def _judge(cases: list[str]) -> list[Verdict]:
    return [_judged(_world, case) for case in cases]


def _judged(world: World, case: str) -> Verdict:
    began, cpu = time.monotonic(), _cpu()
    name, _, rest = case.partition(":")
    try:
        problems = list(CLASSES[name].run(world, rest))
    except Exception:  # noqa: BLE001 (not swallowed: it is the case's verdict)
        problems = [f"the case itself broke: {traceback.format_exc(limit=-4)}"]
    finally:
        world.clear()
    return Verdict(case, problems, time.monotonic() - began, _cpu() - cpu)


def _cpu() -> float:
    """Seconds that this process and those that it has buried have computed."""
    ours, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


def table(verdicts: list[Verdict], wall: float) -> str:
    """The counts, class by class. wall: seconds that it all took."""
    names = [name for name in CLASSES if any(v.case.startswith(f"{name}:") for v in verdicts)]
    lines = [f"{'class':<26}{'cases':>8}{'passed':>8}{'cpu s':>9}"]
    lines += [_line(TITLES[name], [v for v in verdicts if v.case.startswith(f"{name}:")]) for name in names]
    lines += [_line("all", verdicts), f"in {wall:.0f} s"]
    if "seen" in names and seen.note():
        lines.append(f"({seen.note()})")
    return "\n".join(lines)


def _line(title: str, verdicts: list[Verdict]) -> str:
    passed = sum(not v.problems for v in verdicts)
    return f"{title:<26}{len(verdicts):>8}{passed:>8}{sum(v.cpu for v in verdicts):>9.1f}"


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
