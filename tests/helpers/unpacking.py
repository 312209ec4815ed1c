"""A directory to unpack in, with things around it that no archive may touch; and the same in a child with limits."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from helpers.trees import snapshot
from updater.artifact import gzip_stream
from updater.artifact.extract import USUAL, Unpacked, opened, unpack
from updater.artifact.tar_reader import Limits
from updater.errors import Refused, TryLater

_ROOT = Path(__file__).parents[2]
_CHILD = """
import resource, sys
from pathlib import Path
from updater.errors import UpdaterError
from updater.artifact.extract import opened
from updater.artifact.extract import unpack
{first}
try:
    with opened(Path(sys.argv[1])) as file:
        print(unpack(file, Path(sys.argv[2])))
except UpdaterError as e:
    print(f"{{type(e).__name__}}: {{e}}")
{last}
"""


class Host:
    """tarball, into: where `unpack` puts the archive and where it unpacks it."""

    def __init__(self, top: Path) -> None:
        self.tarball = top / "download" / "agent.tar.gz"
        self.into = top / "agent" / "new"
        self.top = top
        for name in ("flag", "download/x", "agent/flag", "agent/1.0/control", "outside/secret", "outside/below/x"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text("untouched")
        (top / "agent/link").symlink_to("../outside")

    def unpack(
        self,
        data: bytes,
        limits: Limits = USUAL,
        *,
        durable: bool = False,
        decompressor: Callable[[], gzip_stream.Decompressor] = gzip_stream.fastest,
    ) -> Unpacked:
        """Unpack a tarball of these bytes. Whatever becomes of it, all the rest must be as before, no descriptor and no
        thread left over, and after an error nothing at all."""
        self.tarball.write_bytes(data)
        before = self._surroundings()
        try:
            with opened(self.tarball) as file:
                return unpack(file, self.into, limits, durable=durable, decompressor=decompressor)
        except (Refused, TryLater) as e:
            assert not os.path.lexists(self.into), "something was left behind"
            assert str(e).isprintable(), "the refusal itself is not safe to print"
            raise
        finally:
            assert self._surroundings() == before

    def unpack_in_child(self, data: bytes, first: str = "", last: str = "", before: Sequence[str] = ()) -> str:
        """The same in a process of its own, within 30 s; `first` and `last` are run around it there, `before` is the start
        of its command line. Returns what it printed: the result or the error."""
        self.tarball.write_bytes(data)
        surroundings = snapshot(self.top, without=self.into)
        command = [*before, sys.executable, "-Bc", _CHILD.format(first=first, last=last), self.tarball, self.into]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert snapshot(self.top, without=self.into) == surroundings
        return done.stdout.strip()

    def _surroundings(self) -> tuple[object, ...]:
        return snapshot(self.top, without=self.into), len(os.listdir("/proc/self/fd")), threading.active_count()
