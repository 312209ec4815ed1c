"""Agents for tests: real directories, real control scripts, and a daemon that is a shell's sleep."""

from pathlib import Path

HEALTHY = """#!/bin/sh
cd "$(dirname "$0")"
echo "$1" >>../.calls
running() { [ -f pid ] && grep -qs '^State:[[:space:]]*[RSDTtIWKP]' "/proc/$(cat pid)/status"; }
case "$1" in
start) running || { sleep 1000 >/dev/null 2>&1 & echo $! >pid; } ;;
stop) running && kill "$(cat pid)" && while running; do sleep 0.01; done ;;
status) if running; then echo started; else echo stoped; fi ;;
esac
"""

QUIET = HEALTHY.replace('echo "$1" >>../.calls', ":")  # the same, without a list of its calls


def script(text: str) -> str:
    """A control that does only this, with the verb in $1."""
    return f"#!/bin/sh\n{text}\n"


def install(
    root: Path, name: str, version: str, control: str = HEALTHY, current: bool = True, mode: int = 0o755
) -> Path:
    """An agent as another updater leaves it: the version's directory, and `.version` when it is the current one."""
    directory = root / name / version
    directory.mkdir(parents=True)
    (directory / "control").write_text(control)
    (directory / "control").chmod(mode)
    if current:
        (root / name / ".version").write_text(version)
    return directory


def members(control: str = HEALTHY, mode: int = 0o755, **more: bytes) -> dict[str, tuple[bytes, int]]:
    """The members of an agent's tarball, for `lab.agents.publish`."""
    return {"control": (control.encode(), mode)} | {name: (content, 0o644) for name, content in more.items()}


def calls(root: Path, name: str) -> list[str]:
    """The verbs that a HEALTHY agent's scripts were called with."""
    try:
        return (root / name / ".calls").read_text().split()
    except FileNotFoundError:
        return []
