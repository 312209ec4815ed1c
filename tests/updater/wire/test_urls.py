"""URLs with a password in them: the password goes where it belongs, and into no message."""

import pytest

from updater.host import config
from updater.host.config import Config
from updater.wire import urls
from updater.wire.names import md5_problem
from updater.wire.urls import base_problem

SHOWN = {
    "http://user:secret@meta:80/x@y": "http://meta:80/x@y",
    "http://meta/x": "http://meta/x",
    "http://meta:80/@scope/x": "http://meta:80/@scope/x",
    "http://[::1]:80/@scope/x": "http://[::1]:80/@scope/x",
    "http://user:sec/ret@meta:80/x": "http://meta:80/x",
    "http://user:sec?ret@meta:80/x": "http://meta:80/x",
    "http://user:sec#ret@meta:80/x": "http://meta:80/x",
    "http://user:sec\\ret@meta:80/x": "http://meta:80/x",
    "http://user:secret@ret@meta:80/x": "http://meta:80/x",
    "user:secret@meta:80/x": "meta:80/x",
    "http:/user:secret@meta:80/x": "meta:80/x",
    "http//user:secret@meta:80/x": "meta:80/x",
    "meta:80/x": "meta:80/x",
    "": "",
}


@pytest.mark.parametrize("url", SHOWN)
def test_a_url_is_shown_without_its_password(url):
    assert urls.shown(url) == SHOWN[url]


PROXIES = {
    "proxy": ("http://proxy", "proxy"),
    "proxy:3128": ("http://proxy:3128", "proxy:3128"),
    "https://proxy:3128/": ("https://proxy:3128", "proxy:3128"),
    "HTTP://proxy": ("http://proxy", "proxy"),
    "bob:s3cret@proxy:3128": ("http://bob:s3cret@proxy:3128", "proxy:3128"),
    "http://bob:s3/c@r#et@[::1]:3128": ("http://bob:s3%2Fc%40r%23et@[::1]:3128", "[::1]:3128"),
    "bob@proxy": ("http://bob@proxy", "proxy"),
    "socks5://proxy:1": ("", "proxy:1"),
    "http://": ("", urls.NO_PROXY_URL),
    "http://bob:s3cret@": ("", urls.NO_PROXY_URL),
    "http://a b": ("", urls.NO_PROXY_URL),
    "http://..:80": ("", "..:80"),
    f"http://xn--{'a' * 70}:3128": ("", f"xn--{'a' * 70}:3128"),
}


@pytest.mark.parametrize("text", PROXIES)
def test_a_proxy_is_understood_as_the_environment_names_it_and_shown_by_its_place_alone(text):
    assert (urls.proxy(text), urls.proxy_shown(text)) == PROXIES[text]


@pytest.mark.parametrize(
    "host",
    [
        *(f"xn--{'a' * 70}", "a." * 127 + "b", "..", ".a", "a..b", "*.a", "a%20b", "", "a:b", "a@"),
        *("[::1", "[::::]", "[1.2.3.4]", "[::1%25lo]", "[::1%lo]", "[]", "::1", "[::1]x"),
    ],
)
def test_what_no_host_is_called_is_in_no_url_of_a_record(host):
    for url in (f"http://{host}/", f"http://user:word@{host}:80/x"):
        assert not urls.has_host(url.split("/")[2])
        assert base_problem("tarball", url)


@pytest.mark.parametrize("host", ["a", "a_b.c-d.", "10.1.2.3", "[::1]", "[::ffff:10.1.2.3]", "xn--caf-dma.example"])
def test_names_and_addresses_are_hosts(host):
    for url in (f"http://{host}/", f"http://user:word@{host}:80/x"):
        assert urls.has_host(url.split("/")[2])
        assert not base_problem("tarball", url)


@pytest.mark.parametrize(
    "url", ["http://bob:s3/cret@host/x", "ftp://bob:s3cret@host", "bob:s3cret@host", "http://b:s3cret@/"]
)
def test_what_is_wrong_with_a_url_is_said_without_its_password(url):
    for problem in (base_problem("tarball", url), md5_problem(url), base_problem("mirror", url + "x" * 5000)):
        assert problem
        assert "cret" not in problem
        assert "s3" not in problem


def test_what_a_host_says_of_its_configuration_holds_no_password_of_metas_url():
    made = Config("http://bob:s3cret@meta:2000", 60)
    assert made.shown_url == "http://meta:2000"
    assert config.as_json(made)["server"] == "http://meta:2000"
    assert Config("bob:s3cret@meta:2000", 60).shown_url == "http://meta:2000"
