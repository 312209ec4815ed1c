"""runUser and workDir: fields of a record like any other, for hosts of coraldane's updater alone."""

import pytest

from helpers.coraldane_updater import PLATFORM, CoraldaneUpdater
from helpers.meta_api import World, record
from helpers.meta_people import Own, first_admin
from meta.records.validate import value_problem

GOOD = {
    "runUser": ["", "root", "moni", "_apt", "web-1.x", "a" * 32],
    "workDir": ["", "/srv", "/srv/a.b/c_d@x%y+z,1=2:3"],
}
BAD = {
    "runUser": [
        "a b",
        "root\n",
        "a\0",
        "ü",
        "a" * 33,
        *["-u", "#0", "1000", "a;b", "$(id)", "a`b`", "a/b", "ADMIN$", "%wheel"],
    ],
    "workDir": [
        "/a b",
        "/a\n",
        "/a\0",
        "/ü",
        "/" + "a" * 255,
        *[
            "srv",
            "/",
            "/srv/",
            "//srv",
            "/srv/../etc",
            "/srv/./a",
            "..",
            "/a;b",
            "/$HOME",
            "/a`b`",
            "~/a",
            "/a|b",
            "/a&b",
            "/a>b",
            "/a'b",
            '/a"b',
            "/a\\b",
            "/a*",
            "/a?b",
            "/{a}",
        ],
    ],
}


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in GOOD.items() for value in values])
def test_a_user_and_an_absolute_path_are_taken(key, value):
    assert value_problem(key, value) == ""


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_what_sudo_or_a_shell_could_take_for_something_else_is_refused(world, key, value):
    assert value_problem(key, value).startswith(key)
    answer = world.call("PUT", "records/a", "editor", headers={"If-None-Match": "*"}, json=record(**{key: value}))
    assert answer.status_code == 400


def test_they_are_kept_changed_explained_and_taken_back(world):
    full = record(runUser="moni", workDir="/srv/agents", overrides=[{"prefix": "lg-", "runUser": "web"}])
    made = world.call("PUT", "records/a", "editor", headers={"If-None-Match": "*"}, json=full)
    assert made.status_code == 201
    shown = world.call("GET", "records/a").json
    assert {key: shown[key] for key in ("runUser", "workDir", "overrides")} == {
        key: full[key] for key in ("runUser", "workDir", "overrides")
    }
    assert world.store.load_records() == world.service.records
    [agent] = world.call("GET", "explain/lg-1").json["agents"]
    said = {one["field"]: (one["value"], one["by"], one["selector"]) for one in agent["fields"]}
    assert said["runUser"] == ("web", "override", "prefix lg-")
    assert said["workDir"] == ("/srv/agents", "record", "")

    def patch(body):
        answer = world.call("PATCH", "records/a", "editor", headers={"If-Match": "*"}, json=body)
        assert answer.status_code == 200, answer.json
        return answer.json["changes"]

    [change] = patch({"set": {"workDir": "/opt"}})
    assert (change["before"]["workDir"], change["after"]["workDir"]) == ("/srv/agents", "/opt")
    [change] = patch({"unset": ["runUser"], "selector": {"prefix": "lg-"}})
    assert "overrides" not in change["after"]
    [change] = patch({"unset": ["runUser", "workDir"]})
    assert not {"runUser", "workDir"} & set(change["after"])
    world.call("POST", "rollback", "editor", json={"revision": 1})
    assert world.call("GET", "records/a").json == shown


def test_the_reply_to_our_own_and_falcons_updaters_has_neither(world):
    body = record(runUser="moni", workDir="/srv/agents")
    world.call("PUT", "records/a", "editor", headers={"If-None-Match": "*"}, json=body)
    [desired] = world.call("POST", "/heartbeat", "local", json={"hostname": "h9"}).json["desiredAgents"]
    assert sorted(desired) == ["cmd", "md5", "name", "tarball", "version"]


@pytest.mark.long
def test_coraldanes_updater_loses_no_agent(tmp_path):
    served, home = tmp_path / "served", tmp_path / "home"
    packages = served / "tarballs" / PLATFORM
    packages.mkdir(parents=True)
    home.mkdir()
    for version in ("1.0", "1.1"):
        (packages / f"a-{version}.tar.gz").write_bytes(f"a {version}".encode())
    with Own(served, "--tarballs", "tarballs") as server:
        boss = first_admin(server, home)
        host = CoraldaneUpdater(server.url, "c1", tmp_path / "host")
        host.running["kept"] = ("0.9", "moni", "/srv")  # from before it came to this meta
        (tmp_path / "host/srv/kept").mkdir(parents=True)

        boss("set", "kept", "version=0.9", "tarball=http://r.example", "--yes")
        boss("set", "a", "version=1.0", f"tarball={server.url}/tarball", "--yes")
        host.cycle()
        assert (host.fetched, host.stopped, list(host.running)) == ([], [], ["kept"])

        said = boss.run("set", "a", "runUser=moni", "workDir=/srv/agents", "--yes")
        assert said.returncode == 0, said.stderr
        assert "runUser and workDir of a have no effect on our own updaters yet" in said.stderr
        host.cycle()
        assert host.fetched == [f"{server.url}/tarball/{PLATFORM}/a-1.0.tar.gz"]
        assert (tmp_path / "host/srv/agents/a/run").read_text() == "a 1.0"
        boss("set", "a", "version=1.1", "--yes")
        host.cycle()
        assert (tmp_path / "host/srv/agents/a/run").read_text() == "a 1.1"

        boss("unset", "a", "runUser", "--yes")
        host.cycle()
        boss("unset", "a", "--yes")
        host.cycle()
        assert (host.stopped, sorted(host.running)) == ([], ["a", "kept"])

        file = tmp_path / "records.yaml"
        boss("set", "a", "version=1.1", f"tarball={server.url}/tarball", "runUser=moni", "workDir=/srv/agents", "--yes")
        boss("export", "-o", str(file))
        assert "runUser: moni" in file.read_text()
        boss("unset", "a", "--yes")
        boss("import", str(file), "--yes")
        host.cycle()
        assert (host.stopped, host.running["a"]) == ([], ("1.1", "moni", "/srv/agents"))
        boss("set", "a", "workDir=/opt/agents", "--yes")
        host.cycle()
        assert (host.stopped, host.running["a"]) == (["a"], ("1.1", "moni", "/opt/agents"))
