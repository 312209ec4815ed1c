"""The wheels that go into the package: which ones, and that they are the very files that were pinned.

Promises wheels whose sha256 stands in requirements.txt, for every Python and machine that is served. Refuses everything
else: no build from source, no unpinned file, no gap in the list. pip and its configured index do the fetching.
"""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
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


def pinned(requirements: Path = REQUIREMENTS) -> frozenset[str]:
    """The sha256 digests of all wheels of the package."""
    words = requirements.read_text(encoding="utf-8").split()
    return frozenset(word.removeprefix("--hash=sha256:") for word in words if word.startswith("--hash=sha256:"))


def fetch(directory: Path, requirements: Path = REQUIREMENTS) -> list[Path]:
    """The pinned wheels, sorted by name; only what `directory` lacks is downloaded. Raises WheelsError."""
    directory.mkdir(parents=True, exist_ok=True)
    wanted = pinned(requirements)
    if not wanted <= set(_by_digest(directory)):
        download(
            directory,
            [target.options for target in TARGETS],
            ["--no-deps", "--require-hashes", "-r", str(requirements)],
        )
    found = _by_digest(directory)
    if missing := wanted - set(found):
        raise WheelsError(f"{len(missing)} of the wheels in {requirements} were not downloaded: pin them again")
    return sorted(found[digest] for digest in wanted)


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


def _by_digest(directory: Path) -> dict[str, Path]:
    return {digest(wheel): wheel for wheel in sorted(directory.glob("*.whl"))}
