"""Downloads from nginx and HAProxy as the field sets them up: what these say of a file, and when what is behind is away."""

import hashlib
import random

import pytest

from helpers import proxies
from lab.ports import free_port
from updater.artifact.download import Terms, expected_digest, fetch
from updater.errors import Refused, TryLater
from updater.net.http import Http
from updater.wire.heartbeat import Desired

DATA = random.Random("tarball").randbytes(2_000_000)
MD5 = hashlib.md5(DATA).hexdigest()
FILE = "agent-1.0+git.tar.gz"
SITE = """
types {{ application/x-gzip gz; }}
log_format short '$request_uri $status $http_range'; access_log {at}/log short;
server {{ listen 127.0.0.1:{port}; root {at}/files; gzip_static always;
  location ~ \\.gz {{ add_header Content-Encoding gzip; }}
}}"""
AWAY = """
defaults
    mode http
    timeout connect 1s
    timeout client 9s
    timeout server 9s
frontend door
    bind 127.0.0.1:{port}
    default_backend stores
backend stores
    server one 127.0.0.1:{store}
"""


@pytest.fixture
def nginx(tmp_path):
    """The URL of an nginx that calls all files of this name gzip-encoded."""
    proxies.needed("nginx")
    port, at = free_port(), tmp_path / "nginx"
    (at / "files").mkdir(parents=True)
    (at / "files" / FILE).write_bytes(DATA)
    (at / "files" / f"{FILE}.md5").write_text(f"{MD5}  {FILE}\n")
    with proxies.nginx_with(SITE.format(at=at, port=port), at, f"http://127.0.0.1:{port}") as url:
        yield url


@pytest.fixture
def haproxy(tmp_path):
    """The URL of a HAProxy, and the port of what is behind it, where nothing listens."""
    proxies.needed("haproxy")
    port, store = free_port(), free_port()
    with proxies.haproxy_with(AWAY.format(port=port, store=store), tmp_path, f"http://127.0.0.1:{port}") as url:
        yield url


def got(order, tmp_path, within=20.0, check=lambda: None):
    http = Http()
    terms = Terms(within, check=check)
    with fetch(http, order, expected_digest(http, order, 5), tmp_path / "downloads" / "part", terms) as fetched:
        fetched.file.seek(0)
        return fetched.file.read()


def order(url, **fields):
    return Desired("agent", "1.0+git", url, cmd="start", **fields)


def test_nginx_that_calls_a_tarball_and_its_digest_gzip_encoded(nginx, tmp_path):
    assert got(order(nginx), tmp_path) == DATA


def test_a_download_from_nginx_that_was_stopped_goes_on_where_it_was(nginx, tmp_path):
    calls = iter(range(3))

    def stop():
        if next(calls, None) is None:
            raise TryLater("the updater is stopping")

    with pytest.raises(TryLater, match="stopping"):
        got(order(nginx, md5=MD5), tmp_path, check=stop)
    came = (tmp_path / "downloads" / "part").stat().st_size
    assert 0 < came < len(DATA)
    assert got(order(nginx, md5=MD5), tmp_path) == DATA
    assert (tmp_path / "nginx" / "log").read_text().splitlines()[-1].endswith(f" 206 bytes={came}-")


@pytest.mark.long
def test_a_mirror_of_nginx_without_the_file_does_not_outvote_a_haproxy_whose_store_is_away(nginx, haproxy, tmp_path):
    asked = order(haproxy, md5=MD5, mirrors=(f"{nginx}/none",))
    with pytest.raises(TryLater, match=rf"^{haproxy}/\S+ answered 503$"):
        got(asked, tmp_path, within=4)
    assert got(order(haproxy, md5=MD5, mirrors=(nginx,)), tmp_path) == DATA
    with pytest.raises(Refused, match=rf"^no tarball: {nginx}/none/\S+ answered 404$"):
        got(order(f"{nginx}/none", md5=MD5), tmp_path)
