"""A bare WSGI callable on meta's server, for bench.heartbeat: it decodes a report and answers a constant, and nothing else."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from meta.server import make_server
from meta.settings import Settings
from updater.wire.heartbeat import Desired, Report, render_reply


def load() -> Callable[..., Iterable[bytes]]:
    """Made in the worker."""
    decoder = msgspec.json.Decoder(Report)
    names = ("falcon-agent", "deploy-agent", "naming-agent")
    reply = render_reply([Desired(name, "1.0.0", "http://127.0.0.1:2000/tarball", "", "start") for name in names])
    headers = [("Content-Type", "application/json; charset=UTF-8"), ("Content-Length", str(len(reply)))]

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        decoder.decode(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start("200 OK", headers)
        return [reply]

    return app


if __name__ == "__main__":
    make_server(Settings(log_level="error"), "127.0.0.1", int(sys.argv[1])).serve(target_loader=load, wrap_loader=False)
