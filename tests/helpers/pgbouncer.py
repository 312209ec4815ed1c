"""A real PgBouncer before the tests' PostgreSQL."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from lab.fleet import Late, until
from lab.ports import free_port


@contextlib.contextmanager
def pgbouncer(url: str, directory: Path, mode: str, *lines: str, port: int = 0) -> Iterator[str]:
    """The URL of this database through one, which is killed in the end. mode: session or transaction; lines: more of its
    configuration; port: where it listens, 0 for a free one."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if not program and "CI" not in os.environ:
        pytest.skip("no pgbouncer here")
    assert program, "no pgbouncer here"
    to, port = sa.make_url(url), port or free_port()
    server = f"host={to.host} port={to.port or 5432} user={to.username}"
    server += f" password={to.password}" if to.password else ""
    settings = ["listen_addr = 127.0.0.1", f"listen_port = {port}", "unix_socket_dir =", "auth_type = any"]
    (directory / "pgbouncer.ini").write_text(
        "\n".join(["[databases]", f"* = {server}", "[pgbouncer]", *settings, f"pool_mode = {mode}", *lines, ""])
    )
    command = [program, *(["-u", "nobody"] if os.geteuid() == 0 else []), str(directory / "pgbouncer.ini")]
    with (directory / "pgbouncer.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            until("PgBouncer answers", _answers, process, port)
            yield to.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        finally:
            process.kill()


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        raise Late("PgBouncer ended")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False
