"""The wheels that go into the package: which ones, and that they are the very files that were pinned.

Promises wheels whose sha256 stands in requirements.lock, for every Python and machine that is served. Refuses everything
else: no build from source, no unpinned file, no gap in the list. pip and its configured index do the fetching.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ship import locked
from ship.locked import Pin

NEEDED = ("click", "requests", "urllib3")  # by the daemon, with what these need in turn: pure Python serves all
NATIVE = ("msgspec", "isal")  # and these, of which each target has a wheel of its own
MINORS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
_GLIBCS = ("manylinux2014", "manylinux_2_17")  # nothing newer: hosts with an old glibc are the ones that stay


class WheelsError(Exception):
    """The wheels cannot be had as pinned. One sentence, with pip's own words where it was pip that failed."""


@dataclass(frozen=True, slots=True)
class Target:
    """One Python on one machine."""

    minor: str
    machine: str

    @property
    def tag(self) -> str:
        """The interpreter's part of a wheel's name: cp311."""
        return f"cp{self.minor.replace('.', '')}"

    @property
    def suffix(self) -> str:
        """How this Python names its extension modules, without the dot and .so: PEP 3149 with Debian's triplet."""
        return f"cpython-{self.minor.replace('.', '')}-{self.machine}-linux-gnu"

    @property
    def options(self) -> list[str]:
        """What makes pip choose for this target and not for the Python it runs in."""
        platforms = [f"--platform={glibc}_{self.machine}" for glibc in _GLIBCS]
        return [f"--python-version={self.minor}", "--implementation=cp", f"--abi={self.tag}", *platforms]

    def takes(self, wheel: Path) -> bool:
        """Whether a wheel of extension modules is this target's, by its name (PEP 427)."""
        tags = wheel.stem.split("-")[-3:]
        return tags[0] == self.tag and any(p.endswith(f"_{self.machine}") for p in tags[2].split("."))


TARGETS = tuple(Target(minor, machine) for minor in MINORS for machine in MACHINES)
PURE = ["--python-version=3.11", "--implementation=py", "--abi=none", "--platform=any"]


def is_pure(wheel: Path) -> bool:
    """Whether a wheel holds no extension modules, by its name."""
    return wheel.stem.endswith("-none-any")


def pins() -> list[Pin]:
    """What the daemon needs on a host, and nothing else. Raises LockError when the lock lacks some of it."""
    return locked.select(locked.read(locked.LOCK.read_text(encoding="utf-8")), (*NEEDED, *NATIVE))


def fetch(directory: Path, wanted: Sequence[Pin] | None = None) -> list[Path]:
    """The wheels of these pins, or of all, sorted by name; only what `directory` lacks is downloaded. Raises WheelsError."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = pins() if wanted is None else wanted
    if len({pin.name for pin in wanted}) < len(wanted):
        raise WheelsError("a library is locked in two versions, but hosts get one: bound it in setup.cfg")
    if None in dict(_choose(directory, wanted)).values():
        _download_pins(directory, [PURE], [pin for pin in wanted if pin.name not in NATIVE])
        _download_pins(directory, [t.options for t in TARGETS], [pin for pin in wanted if pin.name in NATIVE])
    found = []
    for what, wheel in _choose(directory, wanted):
        if wheel is None:
            raise WheelsError(f"there is no wheel of {what}: bound it in setup.cfg and run ./control lock")
        found.append(wheel)
    return sorted(found)


def _choose(directory: Path, wanted: Sequence[Pin]) -> Iterator[tuple[str, Path | None]]:
    """Each wheel that is needed, in words, and the file, or None where `directory` has none with a digest that is pinned."""
    by_pin = {pin: [wheel for wheel in sorted(directory.glob("*.whl")) if _is_of(wheel, pin)] for pin in wanted}
    for pin, files in by_pin.items():
        if pin.name in NATIVE:
            for target in TARGETS:
                yield f"{pin.requirement} for {target.suffix}", next(filter(target.takes, files), None)
        else:
            yield f"{pin.requirement} in pure Python", next(filter(is_pure, files), None)


def _is_of(wheel: Path, pin: Pin) -> bool:
    name, version, *_ = wheel.stem.split("-")
    return (locked.normal(name), version) == (pin.name, pin.version) and digest(wheel) in pin.hashes


def _download_pins(directory: Path, targets: Iterable[Sequence[str]], wanted: Sequence[Pin]) -> None:
    if not wanted:
        return
    with TemporaryDirectory() as own:
        requirements = Path(own) / "requirements.txt"
        requirements.write_text("\n".join(map(str, wanted)), encoding="utf-8")
        download(directory, targets, ["--no-deps", "--require-hashes", "-r", str(requirements)])


def download(directory: Path, targets: Iterable[Sequence[str]], what: Sequence[str]) -> None:
    """Have pip download wheels for each target (its options). Raises WheelsError.

    Each pip has a directory of its own: of two in one, each removes what it takes for the other's damaged file.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--only-binary=:all:", *what]

    def one(options: Sequence[str]) -> None:
        with TemporaryDirectory(dir=directory) as own:
            done = subprocess.run([*command, *options, f"--dest={own}"], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise WheelsError(f"pip cannot download for {' '.join(options)}: {done.stderr.strip()}")
            for wheel in Path(own).glob("*.whl"):
                wheel.replace(directory / wheel.name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, targets))


def digest(path: Path) -> str:
    """The sha256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
