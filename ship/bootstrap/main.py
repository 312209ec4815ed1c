# ruff: noqa: PTH100, PTH111, PTH117, PTH118, PTH120, SIM905, UP036
# Python 3.6 must be able to read this file, to be told that it is too old; and pathlib would cost a tenth of the start.
"""The first thing that runs in updater.pyz: finds the libraries unpacked by an earlier start, or has them unpacked.

Promises one sentence and exit code 2 where this Python cannot be served. Trusts only a directory that is this user's
and closed to all others; what it loads has no byte-code that a power cut could have torn (first_start.py writes all).
"""

import os
import signal
import stat
import sys

MYPY = False
if MYPY:
    from typing import NoReturn

CONTENT = "@CONTENT@"  # names everything inside, so that no two packages share a directory
SUFFIXES = "@SUFFIXES@".split()  # the Pythons that are served, as they name their extension modules
SERVED = "@SERVED@"  # the same for people


def refuse(why: str) -> "NoReturn":
    sys.stderr.write(f"updater.pyz: {why}\n")
    sys.exit(2)


def suffix() -> str:
    """Which of the carried extension modules fit this Python: minor version, machine and C library in one word."""
    if sys.version_info < (3, 11):
        found = f"{sys.version_info[0]}.{sys.version_info[1]} ({sys.executable})"
        refuse(f"needs Python 3.11 or newer, but this is {found}; run it with a newer one: python3.11 updater.pyz")
    from importlib.machinery import EXTENSION_SUFFIXES

    name = EXTENSION_SUFFIXES[0][1 : -len(".so")]
    if name not in SUFFIXES:
        refuse(f"is made for {SERVED}, but this is {name} ({sys.executable})")
    return name


def places(pyz: str) -> "list[str]":
    """Where unpacked libraries may lie, best first."""
    found = [os.path.dirname(pyz)]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if os.path.isabs(cache):
        found.append(os.path.join(cache, "ops-updater"))
    return found


def is_ours(directory: str) -> bool:
    """Whether nobody but this user (and root) can have put anything there."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    mine = found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == 0o700
    return mine and stat.S_ISDIR(found.st_mode)


def libraries(pyz: str) -> str:
    """The directory of the unpacked libraries."""
    fitting = suffix()
    name = f".lib-{CONTENT}-{fitting}"
    for place in places(pyz):
        if is_ours(os.path.join(place, name)):
            return os.path.join(place, name)
    import first_start  # type: ignore[import-not-found]  # stands beside this in the zip

    try:
        return str(first_start.unpack(pyz, places(pyz), name, fitting, is_ours))
    except first_start.TROUBLE as e:
        refuse(f"cannot unpack its libraries: {e}")


def main() -> None:
    pyz = os.path.abspath(sys.argv[0])
    directory = libraries(pyz)
    sys.path[:] = [directory] + [entry for entry in sys.path if os.path.abspath(entry) != pyz]
    sys.dont_write_bytecode = True
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as updater.program does: a traceback tells nobody anything
    try:
        from updater.cli.main import main as updater
    except ImportError as e:
        refuse(f"cannot load its libraries from {directory}: {e}")
    updater(prog_name="updater")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while the libraries were looked for, or unpacked
        sys.exit(130)
