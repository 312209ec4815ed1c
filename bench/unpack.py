"""What unpacking costs, against `tar xzf` of the same file in the same run. Prints one JSON object.

    .venv/bin/python -m bench.unpack [--rounds N] [--directory DIR]

Two tarballs: one of about 27 MB that holds 100 MB in 40 files, an eighth of it noise and the rest text, and one of 3,000 small
files. Each round unpacks both in turns: with tar, with tar and then `sync` of each file, which is what the updater promises,
with us as the updater does it, and with us without the fsyncs; each time into a new directory, after a `sync` that is not
timed. Nothing is removed until the end: ext4 makes files several times slower while many were removed just before.
"""

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from updater.artifact import gzip_stream
from updater.artifact.extract import opened, unpack

BIG_FILES, BIG_SIZE, BIG_RANDOM = 40, 2_500_000, 330_000  # bytes of a file, and those of them that do not compress
SMALL_FILES, SMALL_DIRECTORIES = 3000, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--directory", type=Path, help="where to unpack; else where temporary files are")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ops-updater-bench-", dir=given.directory) as directory:
        top = Path(directory)
        found = {name: compare(top, name, files, given.rounds) for name, files in (("big", big()), ("small", small()))}
        print(
            json.dumps({"rounds": given.rounds, "inflater": type(gzip_stream.fastest()).__module__, **found}, indent=2)
        )


def big() -> dict[str, bytes]:
    noise = random.Random(1)
    text = b"".join(
        b"%08x GET /api/heartbeat?host=%d HTTP/1.1 200\n" % (n * 2654435761 % 2**32, n % 50) for n in range(60_000)
    )
    return {f"bin/{n}": noise.randbytes(BIG_RANDOM) + text[: BIG_SIZE - BIG_RANDOM] for n in range(BIG_FILES)}


def small() -> dict[str, bytes]:
    noise = random.Random(2)
    each = SMALL_FILES // SMALL_DIRECTORIES
    return {
        f"lib/package{n // each}/module{n % each}.py": noise.randbytes(noise.randrange(1000)).hex().encode()
        for n in range(SMALL_FILES)
    }


def compare(top: Path, name: str, files: dict[str, bytes], rounds: int) -> dict[str, object]:
    """Milliseconds and ratios, the medians of all rounds."""
    tarball = pack(top / f"{name}.tar.gz", files)
    ways: dict[str, Callable[[Path, Path], object]] = {
        "tar": tar,
        "tar_and_sync": tar_and_sync,
        "ours": ours,
        "ours_without_fsync": partial(ours, durable=False),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, does in ways.items():
            seconds = timed(does, tarball, top / f"{name}-{way}-{number}")
            if number:  # the first round only warms up
                took[way].append(seconds)
    same = subprocess.run(["diff", "-r", top / f"{name}-tar-0", top / f"{name}-ours-0"], check=True)
    return {
        "tarball_mb": round(tarball.stat().st_size / 1e6, 1),
        "unpacked_mb": round(sum(map(len, files.values())) / 1e6, 1),
        "files": len(files) + 1,
        "same_tree": same.returncode == 0,
        **{f"{way}_ms": round(statistics.median(seconds) * 1000) for way, seconds in took.items()},
        **{
            f"{way}_to_{other}": round(statistics.median(w / o for w, o in zip(took[way], took[other], strict=True)), 2)
            for way, other in (("ours", "tar"), ("ours", "tar_and_sync"), ("ours_without_fsync", "tar"))
        },
    }


def pack(tarball: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(tarball, "w:gz", compresslevel=6) as archive:
        for name, data in {"control": b"#!/bin/sh\n", **files}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o755 if name == "control" else 0o644, 1_700_000_000
            archive.addfile(member, io.BytesIO(data))
    return tarball


def ours(tarball: Path, into: Path, durable: bool = True) -> None:
    with opened(tarball) as file:
        unpack(file, into, durable=durable)


def tar(tarball: Path, into: Path) -> None:
    into.mkdir()
    subprocess.run(["tar", "xzf", tarball, "-C", into], check=True)


def tar_and_sync(tarball: Path, into: Path) -> None:
    tar(tarball, into)
    subprocess.run(["find", into, "-exec", "sync", "{}", "+"], check=True)


def timed(does: Callable[[Path, Path], object], tarball: Path, into: Path) -> float:
    os.sync()
    began = time.perf_counter()
    does(tarball, into)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
