"""The same raw requests through an nginx in front: what it takes for a request is what the door sees, and nothing else."""

import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from socket import create_connection

import pytest
from door_cases import cases

from helpers.opened_door import OpenedDoor, received
from helpers.proxies import needed
from lab.fleet import until
from lab.ports import free_port

CONF = """
daemon off;
pid {at}/pid;
error_log {at}/error.log;
worker_processes 1;
events {{ worker_connections 2000; }}
http {{
    log_format seen '$uri $upstream_status';
    access_log {at}/access.log seen;
    client_body_temp_path {at}/body;
    proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi;
    scgi_temp_path {at}/scgi;
    merge_slashes off;
    keepalive_timeout 1s;
    client_header_timeout 1s;
    client_body_timeout 1s;
    lingering_timeout 1s;
    upstream door {{ server 127.0.0.1:{door}; keepalive 16; keepalive_timeout 60s; }}
    server {{
        listen 127.0.0.1:{port};
        server_name localhost;
        location / {{
            proxy_pass http://door;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
        }}
    }}
}}
"""


@contextmanager
def nginx(door, at):
    """The port of an nginx before this door."""
    port = free_port()
    conf = at / "nginx.conf"
    conf.write_text(CONF.format(at=at, door=door.address[1], port=port))
    process = subprocess.Popen(["nginx", "-p", at, "-c", conf], stderr=subprocess.DEVNULL)
    try:
        until("nginx answers", answers, port)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def answers(port):
    with suppress(OSError), create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.mark.long
def test_nginx_and_the_door_agree_on_where_a_request_ends(tmp_path):
    needed("nginx")
    with OpenedDoor() as door, nginx(door, tmp_path) as port:

        def send(case):
            with create_connection(("127.0.0.1", port), timeout=20) as client:
                with suppress(OSError):
                    client.sendall(case.raw)
                received(client)

        with ThreadPoolExecutor(50) as pool:
            list(pool.map(send, cases()))
        passed = [line.rsplit(" ", 1) for line in (tmp_path / "access.log").read_bytes().decode("latin-1").splitlines()]
        statuses = Counter(status for _, status in passed)
        assert statuses["200"] > 1000
        assert statuses.keys() == {"200", "400", "-"}, (
            "400: a method or a target that nginx hands on and we do not take"
        )
        assert Counter(path for path, status in passed if status == "200") == Counter(one.path for one in door.seen)
    assert door.errors == []
