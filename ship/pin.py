"""`python -m ship.pin`: writes requirements.txt anew, with the newest versions that exist for all we serve.

Promises one version of each library for all targets, with the digest of every wheel. Run it on purpose and read the
difference: what it writes is what runs as root on every host.
"""

import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from ship import wheels

PURE = ("click>=8.1", "requests>=2.31", "urllib3>=2")  # with what these need in turn
NATIVE = ("msgspec>=0.18.6", "isal>=1.6")

HEADER = """\
# What the daemon needs on a host, and nothing else. Written by `python -m ship.pin`.
# One hash for each wheel: a pure one serves all, others there is one of for each Python and machine.
"""


def render(found: list[Path]) -> str:
    """Wheels -> the text of requirements.txt. Raises WheelsError when targets differ in a version."""
    digests: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for wheel in found:
        name, version, *_ = wheel.stem.split("-")
        digests[name.replace("_", "-").lower()][version].append(wheels.digest(wheel))
    lines = [HEADER]
    for name, versions in sorted(digests.items()):
        if len(versions) > 1:
            raise wheels.WheelsError(f"{name} has no version for all targets: found {', '.join(sorted(versions))}")
        [(version, hashes)] = versions.items()
        lines.append(" \\\n    ".join([f"{name}=={version}", *(f"--hash=sha256:{h}" for h in sorted(hashes))]) + "\n")
    return "".join(lines)


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        try:
            wheels.download(Path(directory), [wheels.PURE], PURE)
            wheels.download(Path(directory), [target.options for target in wheels.TARGETS], ["--no-deps", *NATIVE])
            text = render(sorted(Path(directory).glob("*.whl")))
        except wheels.WheelsError as e:
            print(f"pin: {e}", file=sys.stderr)
            return 1
    wheels.REQUIREMENTS.write_text(text, encoding="utf-8")
    print(f"wrote {wheels.REQUIREMENTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
