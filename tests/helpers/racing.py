"""Runs a piece of Python in which something happens between a look and the system call that follows it.

Python raises an audit event just before `os.kill`, `os.killpg` and the start of a process: what happens
there is what a race would make happen.
"""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sys
sys.path.insert(0, {root!r})

def meanwhile(*args):
{meanwhile}

met = []
def hook(event, args):
    if event == {event!r} and not met:
        met.append(args)
        meanwhile(*args)

{given}
sys.addaudithook(hook)
{program}
assert met, "the race did not take place"
"""


def run(event: str, meanwhile: str, given: str, program: str) -> subprocess.CompletedProcess[str]:
    """event: the audit event before which `meanwhile` is run, once; given: run before any of it counts."""
    command = _command(event, meanwhile, given, program)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def started(event: str, meanwhile: str, given: str, program: str) -> subprocess.Popen[bytes]:
    """As `run`, of a program that goes on."""
    return subprocess.Popen(_command(event, meanwhile, given, program), stdin=subprocess.DEVNULL)


def _command(event: str, meanwhile: str, given: str, program: str) -> list[str]:
    root = str(Path(__file__).parents[2])
    indented = "\n".join(f"    {line}" for line in meanwhile.splitlines())
    text = _PROGRAM.format(root=root, event=event, meanwhile=indented, given=given, program=program)
    return [sys.executable, "-c", text]
