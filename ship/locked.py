"""`python -m ship.locked GROUP...`: the part of requirements.lock that some groups need, for `pip install --require-hashes -r`.

A group is `base` (what setup.cfg always installs) or one of its extras. The lock is as `uv pip compile` wrote it; its `# via`
comments say which package needs which, so that one lock serves every subset. Only the standard library: this runs before
anything is installed.
"""

import configparser
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parent.parent
LOCK = CHECKOUT / "requirements.lock"
BASE = "base"
_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_VIA = re.compile(r"# +(?:via +)?([A-Za-z0-9._-]+)")


class LockError(Exception):
    """Something is not in the lock, or there is no such group."""


class Pin(NamedTuple):
    """One locked version of one package."""

    name: str
    version: str
    requirement: str  # with its marker, but without hashes: `isal==1.9.1 ; platform_machine == 'x86_64'`
    hashes: tuple[str, ...]  # sha256 in hex, of every file that may be installed
    needed_by: frozenset[str]  # names of packages

    def __str__(self) -> str:
        return " \\\n    ".join([self.requirement, *(f"--hash=sha256:{digest}" for digest in self.hashes)])


def read(text: str) -> list[Pin]:
    """The lock's text -> its pins, in order."""
    found: list[tuple[re.Match[str], str, list[str], set[str]]] = []
    for line in text.splitlines():
        if match := _PIN.match(line):
            found.append((match, line.removesuffix("\\").strip(), [], set()))
        elif found and "--hash=sha256:" in line:
            found[-1][2].append(line.partition("--hash=sha256:")[2].removesuffix("\\").strip())
        elif found and (via := _VIA.match(line.strip())):
            found[-1][3].add(normal(via[1]))
    return [
        Pin(normal(match["name"]), match["version"], requirement, tuple(hashes), frozenset(needed_by))
        for match, requirement, hashes, needed_by in found
    ]


def select(pins: Sequence[Pin], roots: Iterable[str]) -> list[Pin]:
    """The pins of these packages and of all that they need. Raises LockError for a package that is not locked."""
    names = {normal(root) for root in roots}
    if missing := names - {pin.name for pin in pins}:
        raise LockError(f"{LOCK.name} lacks {', '.join(sorted(missing))}: run ./control lock")
    while more := {pin.name for pin in pins if pin.needed_by & names} - names:
        names |= more
    return [pin for pin in pins if pin.name in names]


def groups(setup_cfg: Path = CHECKOUT / "setup.cfg") -> dict[str, list[str]]:
    """Requirements, as setup.cfg spells them, by group."""
    parser = configparser.ConfigParser()
    parser.read(setup_cfg, encoding="utf-8")
    found = {BASE: parser["options"]["install_requires"], **parser["options.extras_require"]}
    return {name: [line for line in text.splitlines() if line.strip()] for name, text in found.items()}


def roots(names: Iterable[str]) -> list[str]:
    """The packages that these groups name. Raises LockError for a group that does not exist."""
    known = groups()
    wanted = list(names)
    if unknown := [name for name in wanted if name not in known]:
        raise LockError(f"no extra is called '{unknown[0]}'; there are {', '.join(sorted(known.keys() - {BASE}))}")
    return [match[0] for name in wanted for line in known[name] if (match := _NAME.match(line))]


def normal(name: str) -> str:
    """A package's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    try:
        pins = select(read(LOCK.read_text(encoding="utf-8")), roots(sys.argv[1:] or [BASE]))
    except (LockError, OSError) as e:
        print(f"control: {e}", file=sys.stderr)
        return 1
    print("\n".join(map(str, pins)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
