"""Proxies in front of a real meta, on free ports of loopback: nginx with our own configuration, and HAProxy, both of which keep
their connections to what is behind them."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from lab.fleet import Late, Meta, until
from lab.ports import free_port

ROOT = Path(__file__).parents[2]
NAME = "meta.internal"  # none that meta knows
HAPROXY = """
global
    maxconn 500
defaults
    mode http
    option forwardfor
    option http-keep-alive
    http-reuse always
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend hosts
    bind 127.0.0.1:{port}
    http-request set-header Host {name}
    default_backend metas
backend metas
    server one {target} ssl verify none
"""


def needed(program: str) -> None:
    """Skips the test where the program is not there; in CI that is a failure."""
    if not shutil.which(program) and "CI" not in os.environ:
        pytest.skip(f"no {program} here")


@contextlib.contextmanager
def nginx(meta: Meta, at: Path) -> Iterator[str]:
    """The URL of an nginx with our configuration (https, by a certificate of nobody's)."""
    keys = ["-keyout", at / "key.pem", "-out", at / "cert.pem", "-nodes", "-days", "1", "-subj", f"/CN={NAME}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *keys], capture_output=True, timeout=60, check=True
    )
    port, text = free_port(), (ROOT / "deploy" / "nginx.conf").read_text()
    for old, new in (
        ("/etc/ssl/meta.example.pem", f"{at}/cert.pem"),
        ("/etc/ssl/private/meta.example.key", f"{at}/key.pem"),
        ("/var/log/nginx", str(at)),
        ("    listen [::]:443 ssl;\n", ""),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:2000;", f"server {meta.address};"),
        ("/var/lib/ops-meta/tarballs", str(meta.tarballs)),
    ):
        assert old in text, old
        text = text.replace(old, new)
    with nginx_with(text, at, f"https://127.0.0.1:{port}") as url:
        yield url


@contextlib.contextmanager
def nginx_with(text: str, at: Path, url: str) -> Iterator[str]:
    """The URL of an nginx with this in its http block; `at` is for its files."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    rooms = " ".join(f"{kind}_temp_path {at}/{kind};" for kind in kinds)
    user = "user root; " if os.geteuid() == 0 else ""  # who may read what a test has made
    (at / "http.conf").write_text(text)
    (at / "nginx.conf").write_text(
        f"{user}daemon off; pid {at}/pid; error_log {at}/error; events {{}} http {{ {rooms} include {at}/http.conf; }}"
    )
    with _running(["nginx", "-c", str(at / "nginx.conf")], url) as running:
        yield running


@contextlib.contextmanager
def haproxy(target: str, at: Path) -> Iterator[str]:
    """The URL of a HAProxy before what answers at https://TARGET."""
    port = free_port()
    text = HAPROXY.format(port=port, name=NAME, target=target)
    with haproxy_with(text, at, f"http://127.0.0.1:{port}") as url:
        yield url


@contextlib.contextmanager
def haproxy_with(text: str, at: Path, url: str) -> Iterator[str]:
    """The URL of a HAProxy with this configuration."""
    (at / "haproxy.cfg").write_text(text)
    with _running(["haproxy", "-db", "-f", str(at / "haproxy.cfg")], url) as running:
        yield running


@contextlib.contextmanager
def _running(command: list[str], url: str) -> Iterator[str]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            until(f"{command[0]} answers", _answers, process, url)
            yield url
        finally:
            process.terminate()


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    if process.poll() is not None:
        raise Late(f"it ended: {process.stderr.read().decode()}")  # type: ignore[union-attr]
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), 5):
        return True
    return False
