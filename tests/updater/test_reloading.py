"""`updater reload` against whatever may listen on the daemon's port."""

import pytest

from helpers.servers import answer, serving
from updater import reloading
from updater.config import Config, Http
from updater.errors import TryLater

OTHERS = {
    "a page": b"<html>",
    "no object": b"[]",
    "no message": b"{}",
    "null": b"null",
    "100,000 brackets": b"[" * 100_000,
    "5,000 digits": b"1" * 5000,
    "not text": b"\xff\xfe",
}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_updater_is_said_to_be_none(body):
    with serving(answer(body)) as server:
        listen = server.url.removeprefix("http://")
        with pytest.raises(TryLater, match=f"{listen} is no updater"):
            reloading.ask(Config("127.0.0.1:1", interval=60, http=Http(enabled=True, listen=listen)))
