"""cfg.json: the Go updater's keys, our additions, and an error that names the key."""

import json

import pytest

from updater.errors import Misconfigured
from updater.host import config
from updater.wire.heartbeat import Desired

GO = {
    "debug": True,
    "hostname": "",
    "desiredAgent": "",
    "server": "127.0.0.1:2000",
    "interval": 300,
    "http": {"enabled": True, "listen": "0.0.0.0:2001"},
}


def write(tmp_path, value):
    path = tmp_path / "cfg.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_configuration_of_the_go_updater_is_taken_as_it_is(tmp_path):
    loaded = config.load(write(tmp_path, GO))
    assert loaded.heartbeat_url == "http://127.0.0.1:2000/heartbeat"
    assert (loaded.debug, loaded.interval, loaded.http.listen) == (True, 300, "0.0.0.0:2001")
    assert loaded.reported_hostname


@pytest.mark.parametrize("listen", ["", "127.0.0.1:2001"])
def test_an_interface_that_is_off_needs_no_address(tmp_path, listen):
    loaded = config.load(write(tmp_path, GO | {"http": {"enabled": False, "listen": listen}}))
    assert not loaded.http.enabled
    with pytest.raises(Misconfigured, match=r'http.listen: "" is not HOST:PORT'):
        config.load(write(tmp_path, GO | {"http": {"enabled": True, "listen": ""}}))
    with pytest.raises(Misconfigured, match=r'http.listen: "2001" is not HOST:PORT'):
        config.load(write(tmp_path, GO | {"http": {"enabled": False, "listen": "2001"}}))


def test_the_example_is_a_valid_configuration(request):
    loaded = config.load(request.config.rootpath / "cfg.example.json")
    assert loaded.http.listen.startswith("127.0.0.1:")


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("meta.example:2000", "http://meta.example:2000/heartbeat"),
        ("https://meta.example", "https://meta.example/heartbeat"),
        ("https://meta.example/ops/", "https://meta.example/ops/heartbeat"),
        ("[::1]:2000", "http://[::1]:2000/heartbeat"),
    ],
)
def test_the_server_is_an_address_or_a_url(tmp_path, server, url):
    assert config.load(write(tmp_path, GO | {"server": server})).heartbeat_url == url


BAD = {
    "server: is missing": {k: v for k, v in GO.items() if k != "server"},
    "interval: is missing": {k: v for k, v in GO.items() if k != "interval"},
    "interval: must be a number, not text": GO | {"interval": "300"},
    "interval: must be more than 0": GO | {"interval": 0},
    "intervall: unknown key": GO | {"intervall": 5},
    "http.listn: unknown key": GO | {"http": {"listn": ""}},
    "http.listen: must be text, not a whole number": GO | {"http": {"listen": 2001}},
    'http.listen: "2001" is not HOST:PORT': GO | {"http": {"listen": "2001"}},
    'http.listen: "a:99999" is not HOST:PORT': GO | {"http": {"listen": "a:99999"}},
    "server: server": GO | {"server": "ftp://meta"},
    "hostname: hostname": GO | {"hostname": "a b"},
    "desiredAgent: name": GO | {"desiredAgent": "../x"},
    "timeouts.start: must be more than 0": GO | {"timeouts": {"start": -1}},
    'agents[...].leftovers: "kill" is none of its values': GO | {"agents": {"a": {"leftovers": "kill"}}},
    "agents.../x: name": GO | {"agents": {"../x": {}}},
    "top level: must be an object": [],
    "is not JSON": "{",
}


@pytest.mark.parametrize(("words", "value"), BAD.items(), ids=BAD.keys())
def test_an_error_names_the_file_and_the_key(tmp_path, words, value):
    path = write(tmp_path, value)
    with pytest.raises(Misconfigured) as caught:
        config.load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_says_what_to_copy(tmp_path):
    with pytest.raises(Misconfigured, match=r"copy cfg\.example\.json to cfg\.json"):
        config.load(tmp_path / "cfg.json")


def test_what_a_reply_leaves_open_is_as_the_configuration_has_it(tmp_path):
    agents = {"a": {"leftovers": "end", "unknownStatus": "upgrade"}}
    loaded = config.load(write(tmp_path, GO | {"agents": agents}))
    assert loaded.completed(Desired("a")) == Desired("a", leftovers="end", unknown_status="upgrade")
    assert loaded.completed(Desired("a", leftovers="leave")).leftovers == "leave"
    assert loaded.completed(Desired("b")) == Desired("b")


def test_what_is_no_json_is_shown_with_its_line_and_what_may_be_meant(tmp_path):
    path = write(tmp_path, '{\n  "server": "m:2000",\n  "interval": 60,\n}\n')
    with pytest.raises(Misconfigured) as caught:
        config.load(path)
    said = """3: is not JSON at column 17 (a comma, and nothing behind it): ""interval": 60,", from "," on"""
    assert str(caught.value) == f"{path}:{said}"
