"""`./control lock`: writes requirements.lock anew from setup.cfg's ranges.

Promises one version of each package for CPython 3.11 to 3.14, with the digests of all its files, and for what hosts get, that a
wheel exists for each of them. What is locked already stays unless setup.cfg excludes it, or an option of `uv pip compile` says
otherwise: `--upgrade`, `--upgrade-package NAME`. Read the difference before it is committed: it is what runs.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ship import locked, wheels

COMPILE = ("pip", "compile", "setup.cfg", "--all-extras", "--universal", "--generate-hashes", "--no-build-isolation")


def main() -> int:
    lowest, uv = wheels.MINORS[0], Path(sys.executable).with_name("uv")
    chosen = (f"--python={sys.executable}", f"--python-version={lowest}", f"--output-file={locked.LOCK.name}")
    command = [str(uv), *COMPILE, *chosen, "--custom-compile-command=./control lock", "--quiet", *sys.argv[1:]]
    if subprocess.run(command, cwd=locked.CHECKOUT, check=False).returncode:
        return 1
    with TemporaryDirectory() as directory:
        try:
            wheels.fetch(Path(directory))
        except (wheels.WheelsError, locked.LockError) as e:
            print(f"lock: {e}", file=sys.stderr)
            return 1
    print(f"wrote {locked.LOCK.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
