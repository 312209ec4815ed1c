"""`./control pack`: builds dist/ops-updater-<version>.tar.gz, which is an agent like any other, and its .md5.

Promises a tarball that the updater's own strict unpacker takes (it is tried), and the same bytes for the same inputs.
"""

import gzip
import hashlib
import io
import os
import re
import sys
import tarfile
import tempfile
from pathlib import Path

import click

from ship import pyz, wheels
from updater.artifact import extract
from updater.errors import UpdaterError

NAME = "ops-updater"
CHECKOUT = Path(__file__).parent.parent
EPOCH = 1577836800  # 2020-01-01: the time of every file, where SOURCE_DATE_EPOCH names no other
_VERSION = re.compile(r'^__version__ = "([A-Za-z0-9][A-Za-z0-9._+~=-]{0,63})"$', re.MULTILINE)


def pack(into: Path, source: Path, cache: Path, epoch: int = EPOCH) -> Path:
    """Build the tarball and its .md5 (as md5sum prints it) in the directory `into`; returns the tarball.

    source: a checkout, or a directory with the same control, cfg.example.json and updater/; its version is the package's.
    cache: where wheels are kept. Raises WheelsError, and UpdaterError when our own unpacker refuses the tarball.
    """
    file = pyz.build(source, wheels.fetch(cache), epoch)
    data = _tarball(
        {
            "cfg.example.json": ((source / "cfg.example.json").read_bytes(), 0o644),
            "control": ((source / "control").read_bytes(), 0o755),
            "updater.pyz": (file, 0o755),
        },
        epoch,
    )
    into.mkdir(parents=True, exist_ok=True)
    tarball = into / f"{NAME}-{version_of(source)}.tar.gz"
    tarball.write_bytes(data)
    with tempfile.TemporaryDirectory() as directory, extract.opened(tarball) as written:
        extract.unpack(written, Path(directory) / "tried", durable=False)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    tarball.with_name(f"{tarball.name}.md5").write_text(f"{md5}  {tarball.name}\n", encoding="ascii")
    return tarball


def version_of(source: Path) -> str:
    """The version that the sources name. Raises WheelsError for none, or one that hosts would refuse."""
    found = _VERSION.search((source / "updater/__init__.py").read_text(encoding="utf-8"))
    if not found:
        raise wheels.WheelsError("updater/__init__.py names no version that hosts would take")
    return found[1]


def _tarball(members: dict[str, tuple[bytes, int]], epoch: int) -> bytes:
    file = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", 9, file, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, (data, mode) in sorted(members.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), mode, epoch
            info.uname = info.gname = "root"
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


@click.command()
@click.option("--into", type=click.Path(file_okay=False, path_type=Path), default=Path("dist"), show_default=True)
@click.option(
    "--wheels",
    "cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/wheels"),
    show_default=True,
    help="Where downloaded wheels are kept.",
)
def main(into: Path, cache: Path) -> None:
    """Build the package for hosts; publish both files that it names."""
    try:
        tarball = pack(into, CHECKOUT, cache, int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH)))
    except (wheels.WheelsError, UpdaterError) as e:
        click.echo(f"pack: {e}", err=True)
        sys.exit(1)
    data = tarball.read_bytes()
    click.echo(f"{tarball}  {len(data)} bytes")
    click.echo(f"md5     {hashlib.md5(data, usedforsecurity=False).hexdigest()}")
    click.echo(f"sha256  {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
