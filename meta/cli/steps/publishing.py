"""`meta publish`: checks a tarball by the updater's own rules and uploads it to where hosts fetch it.

The bytes that meta stores are those that were checked. A published version is never replaced by other bytes, since hosts and
caches keep it.
"""

import hashlib
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from msgspec.structs import asdict

from meta.api.schemas.tarballs import Tarballs, TarballView
from meta.api.schemas.tokens import Whoami
from meta.artifacts import tarballs
from meta.cli.client import Client, at
from meta.cli.errors import TO_GET_ONE, Conflict
from meta.errors import Misconfigured, TryLater
from updater.artifact import extract, gzip_stream, runnable
from updater.errors import Refused, UpdaterError
from updater.wire.names import name_problem, version_problem
from updater.wire.text import plain

CHUNK = 1 << 20  # bytes


class Digests(NamedTuple):
    """The size in bytes and the digests of a file, in lower-case hex."""

    size: int
    md5: str
    sha256: str


class PublishedView(TarballView, kw_only=True):
    """The output of `meta publish -o json`."""

    url: str  # where hosts fetch it
    next: str  # the command that puts it in force
    is_new: bool  # it was not published before


class Published(NamedTuple):
    """The result of publishing."""

    name: str  # of the agent
    version: str
    is_known: bool  # the agent has a record
    members: int  # of the archive
    digests: Digests
    tarball: TarballView
    is_new: bool  # it had to be uploaded
    notes: tuple[str, ...] = ()  # remarks on its content


def view(done: Published, meta: str) -> PublishedView:
    """The output for programs. meta: its URL."""
    fields = [f"version={done.version}", f"md5={done.digests.md5}", f"sha256={done.digests.sha256}"]
    if not done.is_known:
        fields.append(f"tarball={meta}/tarball")
    url = f"{meta}/tarball/{quote(done.tarball.name)}"
    line = shlex.join(["meta", "set", done.name, *fields])
    return PublishedView(**asdict(done.tarball), url=url, next=line, is_new=done.is_new)


def publish(client: Client, tarball: Path, agent: str | None, why: str = "") -> Published:
    """Check the tarball and have meta publish it. agent: its name, needed if the file name is ambiguous."""
    known = _known(client)
    name, version = split(tarball.name, [agent] if agent else known, must=bool(agent))
    with _opened(tarball) as file:
        digests = _digests(file, tarball.name)
        members, notes = _checked(file, tarball.name)
        there = _already(client, tarball.name, digests)
        if there:
            return Published(name, version, name in known, members, digests, there, False, notes)
        file.seek(0)
        with _shown_progress(file, digests.size) as body:
            done = client.upload(
                at("tarballs", tarball.name), body, TarballView, sha256=digests.sha256, agent=name, why=why
            )
    return Published(name, version, name in known, members, digests, done, True, notes)


def _known(client: Client) -> list[str]:
    """The agents that have a record. Also checks that publishing is allowed, before a long upload starts."""
    me = client.get("/whoami", Whoami)
    if not me.role:
        raise Misconfigured(f"this needs a token: {TO_GET_ONE}")
    if me.role not in ("editor", "admin"):
        raise Misconfigured(f"publishing needs the role editor or admin; {me.name} is {me.role}")
    return [one["name"] for one in client.get("/records", dict[str, Any])["agents"]]


def split(file: str, known: list[str], must: bool = False) -> tuple[str, str]:
    """NAME-VERSION.tar.gz -> (name, version). Raises Misconfigured.

    The longest matching known name is taken, else the version begins at the first digit after a `-`. must: the name must be
    a known one.
    """
    name, version = tarballs.split(file, known)
    is_named = file.endswith(".tar.gz") and name and not (name_problem(name) or version_problem(version))
    if not is_named or (must and name not in known):
        wanted = f"{known[0]}-VERSION.tar.gz" if must else "NAME-VERSION.tar.gz"
        raise Misconfigured(
            f"the file must be named {wanted}, because hosts ask for it by that name; this is {plain(file)}"
        )
    return name, version


def _already(client: Client, name: str, digests: Digests) -> TarballView | None:
    """The tarball that is published under this name with the same bytes, or None. Raises Conflict for other bytes."""
    there = next((one for one in client.get("/tarballs", Tarballs).items if one.name == name), None)
    if there is None or not there.md5 or not there.published:
        return None  # or meta must read it, or write down that it was published
    if (there.size, there.md5) != (digests.size, digests.md5):
        raise Conflict(f"{name} is published with other bytes (md5 {there.md5}); give yours another version", ())
    there.sha256 = digests.sha256
    return there


@contextmanager
def _opened(tarball: Path) -> Iterator[BinaryIO]:
    """Open the tarball once for digests, check and upload, so that all see the same bytes even if its path is replaced."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(extract.opened(tarball))
        except UpdaterError as e:
            raise Misconfigured(str(e)) from e
        yield file


def _digests(file: BinaryIO, name: str) -> Digests:
    by_md5, by_sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    try:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            by_md5.update(chunk)
            by_sha256.update(chunk)
    except OSError as e:
        raise TryLater(f"{name} cannot be read: {e.strerror}") from e
    return Digests(size, by_md5.hexdigest(), by_sha256.hexdigest())


def _checked(tarball: BinaryIO, name: str) -> tuple[int, tuple[str, ...]]:
    """Unpack it as a host would, in a temporary directory; returns (number of members, notes). Raises Misconfigured."""
    with tempfile.TemporaryDirectory(prefix="meta-publish-") as directory:
        try:
            into = Path(directory) / "content"
            done = extract.unpack(tarball, into, durable=False, decompressor=gzip_stream.plain)  # the stricter one
            if problem := runnable.form_problem(into / "control"):
                raise Refused(f"its control cannot run: {problem}")
            lacking = runnable.missing(into / "control", os.environ.get("PATH", os.defpath))
            warning = f"control cannot run here, and on hosts like this: {lacking}" if lacking else ""
            return done.members, tuple(filter(None, (extract.in_words(done.skipped), warning)))
        except Refused as e:
            raise Misconfigured(f"every host would refuse {name}: {e}") from e
        except UpdaterError as e:
            raise TryLater(f"{name} cannot be checked here: {e}") from e


@contextmanager
def _shown_progress(file: BinaryIO, size: int) -> Iterator[BinaryIO]:
    """The file, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield file
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress.wrap_file(file, total=size)
