"""More of class 7: control scripts that do their work, as the field writes them, and what the kernel knows of their processes.

Each is tried as the new version of a healthy agent and as the version that runs, with no fault and with the updater killed on
the way; the order says `leftovers: end`. Whatever the script: in the end exactly one agent runs, of the version that works, and
no other process of any version.
"""

import itertools
import os
import signal

from faults import goods
from faults.observers import AFTER, BEFORE, Kill
from faults.scenarios import SCENARIOS, A
from faults.world import World

_UPGRADE = SCENARIOS["upgrade"]
_START = next(line for line in goods.CONTROL.splitlines() if line.startswith("start)"))
_STOP = goods.CONTROL[goods.CONTROL.index("stop)\n") : goods.CONTROL.index("status)\n")]
_WORDS = '[ "$up" ] && echo started || echo stoped'
_SLEEP = " ".join(goods.DAEMON)
_DETACHED = f"{_SLEEP} >/dev/null 2>&1 </dev/null &"


def _with(start: str = _START, stop: str = _STOP, words: str = _WORDS) -> str:
    return goods.CONTROL.replace(_START, start).replace(_STOP, stop).replace(_WORDS, words)


def _starting(command: str) -> str:
    return f'start) [ "$up" ] || {{ {command} echo $! >pid; }} ;;'


_KILL_0 = (
    'pid=$(cat pid 2>/dev/null); if [ "$pid" ] && kill -0 "$pid" 2>/dev/null; then echo started; else echo stoped; fi'
)
_LOCKED = f"""start)
    if read -r other _ <../port && [ "$other" != "$pid" ] && grep -q '^State:.[RSD]' "/proc/$other/status"; then
        echo "address already in use"; exit 1
    fi 2>/dev/null
    [ "$up" ] || {{ {_DETACHED} echo $! >pid; echo $! >../port; }} ;;"""
GOOD = {
    "stop signals and returns": _with(stop='stop) kill "$pid"; rm -f pid; echo stoped ;;\n'),
    "stop takes a while": _with(stop='stop) (sleep 0.3; kill "$pid") >/dev/null 2>&1 & rm -f pid ;;\n'),
    "stop only forgets the pid": _with(stop="stop) rm -f pid ;;\n"),
    "ignores TERM": _with(
        _starting(f"sh -c \"trap '' TERM; exec {_SLEEP}\" >/dev/null 2>&1 &"), "stop) kill $pid; rm -f pid ;;\n"
    ),
    "leads a session": _with(_starting(f"setsid {_DETACHED}")),
    "goes by kill -0": _with(words=_KILL_0),
    "leaves a helper": _with(f'start) [ "$up" ] || {{ {_DETACHED} {_DETACHED} echo $! >pid; }} ;;'),
    "leaves a helper in a session": _with(f'start) [ "$up" ] || {{ setsid {_DETACHED} {_DETACHED} echo $! >pid; }} ;;'),
    "comes up late": _with(f'start) [ "$up" ] || {{ (sleep 0.2; {_SLEEP} & echo $! >pid) >/dev/null 2>&1 & }} ;;'),
    "takes its time to start": _with(_starting(f"sleep 0.3; {_DETACHED}")),
    "holds what its successor needs": _with(_LOCKED, 'stop) (sleep 0.3; kill "$pid") >/dev/null 2>&1 & rm -f pid ;;\n'),
    "forks twice": _with(f'start) [ "$up" ] || ( ({_DETACHED} echo $! >pid) & ) ;;'),
    "keeps its pid in var": _with()
    .replace("<pid", "<var/app.pid")
    .replace(">pid", ">var/app.pid")
    .replace("state=\n", "mkdir -p var; state=\n", 1),
    "forks while it stops": _with(stop=f'stop) {_DETACHED} kill "$pid"; rm -f pid ;;\n'),
    "forks while it stops and leaves": _with(stop=f'stop) setsid {_DETACHED} kill "$pid"; rm -f pid ;;\n'),
    "keeps books of others": _with(
        f'start) mkdir -p apps; echo $PPID >apps/a.pid; [ "$up" ] || {{ {_DETACHED} echo $! >pid; }} ;;'
    ),
    "says more than a word": _with(words=f"echo checking; {_WORDS}"),
    "warns": _with(words=f"echo 'old configuration' >&2; {_WORDS}"),
}
BAD = {
    "starts nothing": _with("start) echo started; exit 0 ;;"),
    "starts what dies": _with(_starting("true &")),
    "leaves only a helper": _with(f"start) {_DETACHED} ;;"),
    "loses its pid": _with(f'start) [ "$up" ] || {{ {_DETACHED} }} ;;'),
}
# Only as the version that runs: it says `stoped` by and by, and what runs is not to be forgotten for that.
RUNNING = {
    "has lost its pid": _with(_starting(f"(sleep 0.3; rm -f pid) >/dev/null 2>&1 & {_DETACHED}")),
    "has lost its pid and leads a session": _with(
        _starting(f"(sleep 0.3; rm -f pid) >/dev/null 2>&1 & setsid {_DETACHED}")
    ),
}
SCRIPTS = GOOD | BAD | RUNNING
PARTS = ("field-new", "field-current")
_KILLS = (
    "",
    f"{BEFORE}:rename:{A}/.version:1",
    f"{AFTER}:rename:{A}/.version:1",
    f"{BEFORE}:rename:.updater/agents/{A}.json:3",
)


def cases(part: str) -> list[str]:
    """`PART:KILL:SCRIPT`; a version that does not work is not the one that runs."""
    scripts = GOOD | (BAD if part == "field-new" else RUNNING)
    return [f"{part}:{kill}/{name}" for kill, name in itertools.product(_KILLS, scripts)]


def run(world: World, case: str) -> list[str]:
    """What is wrong in the end."""
    part, _, rest = case.partition(":")
    kill, _, name = rest.rpartition("/")
    world.begin(_UPGRADE)
    directory = world.site.files / "field"
    directory.mkdir(exist_ok=True)
    new = SCRIPTS[name] if part == "field-new" else goods.CONTROL
    goods.publish(directory, A, "2", new)
    with world.impatient(seconds=2.5):
        if part == "field-current":
            _have_it_run(world, name)
        world.site.desire(world.site.entry(A, "2", tarball=f"{world.site.url}/field", leftovers="end"))
        if kill:
            when, key = kill.split(":", 1)
            if world.once(lambda: Kill(key, when)).signal != signal.SIGKILL:
                return [f"the call {key} did not come"]
        outputs = [world.once().output for _ in range(3)]
    wanted = "1" if part == "field-new" and name in BAD else "2"
    return problems(world, wanted, outputs)


def _have_it_run(world: World, name: str) -> None:
    """The version that runs has this script, and was started by an updater."""
    (world.root / A / "1" / "control").write_text(SCRIPTS[name])
    for daemon in world.daemons():
        os.kill(daemon.pid, signal.SIGKILL)
    while world.daemons():
        pass
    world.site.desire(world.site.entry(A, "1", tarball=f"{world.site.url}/field", leftovers="end"))
    world.once()


def problems(world: World, wanted: str, outputs: list[str]) -> list[str]:
    """What is wrong with a host that has had these cycles, and is to run one version, once."""
    up = sorted(daemon.where.name for daemon in world.daemons())
    found = []
    if wanted not in up or set(up) != {wanted}:
        found.append(f"there run {up}, not {wanted}: {outputs[0][-600:]}")
    if (named := (world.root / A / ".version").read_text().strip()) != wanted:
        found.append(f".version names {named}, not {wanted}: {outputs[0][-600:]}")
    if any("Traceback" in output or "a defect of the updater" in output for output in outputs):
        found.append(f"a traceback: {outputs}")
    if world.look_around() != world.surroundings:
        found.append("something outside the root was changed")
    return found
