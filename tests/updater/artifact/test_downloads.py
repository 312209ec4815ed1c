"""Downloads of agents that are changed side by side: each install holds the bytes that its own digest vouches for."""

import contextlib
import hashlib
import json
import os
import random
import threading

import pytest

from helpers.agents import members, script
from helpers.tarbytes import file, tgz
from lab import agents
from updater.artifact import download, extract
from updater.host.context import Host
from updater.model.layout import MARKER, Layout
from updater.reconcile import cycle
from updater.wire.heartbeat import Desired

CHEAP = script("""case $1 in
start) : >up ;;
stop) rm -f up ;;
status) if [ -e up ]; then echo started; else echo stoped; fi ;;
esac""")
PAIR = {"web": "agent-1.0", "web-agent": "1.0"}  # NAME-VERSION.tar.gz is the same of both


@pytest.fixture
def orders(site):
    """Orders of the pair, each with its own base: size of their programs in bytes -> name -> (entry, its tarball)."""

    def publish(size):
        made = {}
        for name, version in PAIR.items():
            base = site.files / name
            base.mkdir(exist_ok=True)
            program = random.Random(name).randbytes(size)
            tarball = agents.publish(base, name, version, members(CHEAP, who=name.encode(), program=program))
            made[name] = (site.entry(name, version, tarball=f"{site.url}/{name}"), tarball)
        return made

    return publish


@pytest.mark.long
@pytest.mark.parametrize("size", [10, 3_000_000], ids=["small", "large"])
def test_agents_whose_tarballs_are_called_the_same_get_their_own_bytes_in_20_of_20_runs(host, site, orders, size):
    made = orders(size)
    site.desire(*(entry for entry, _ in made.values()))
    for run in range(20):
        root = host.layout.root / f"run{run}"
        root.mkdir()
        result = cycle.run(Host(Layout(root), host.config, host.http))
        assert result.matches, [turn.waits for turn in result.turns]
        for name, version in PAIR.items():
            install = root / name / version
            assert (install / "who").read_text() == name
            assert json.loads((install / MARKER).read_bytes())["md5"] == made[name][1].md5


def test_each_download_has_a_path_of_its_own_whatever_the_names_are(host):
    names = ["a", "a-b", "a-b-c", "a.b", "a_b", "a.tar.gz", "a.part"]
    versions = ["1", "b-1", "b-c-1", "c-1", "1.tar.gz", "1.part", "1+2"]
    orders = [Desired(name, version) for name in names for version in versions]
    paths = {host.layout.download(order.name, order.file_name) for order in orders}
    assert len(paths) == len(orders)


def test_what_is_unpacked_is_what_was_verified_though_another_file_is_put_in_its_place(host, site, tmp_path):
    order, expected, good = _order(site)
    evil = tmp_path / "evil.tar.gz"
    evil.write_bytes(tgz(file("who", b"evil")))
    to = host.layout.download(order.name, order.file_name)
    with download.fetch(host.http, order, expected, to, download.Terms(5)) as fetched:
        os.replace(evil, to)
        extract.unpack(fetched.file, tmp_path / "new")
    assert (tmp_path / "new" / "who").read_text() == "good"
    assert fetched.md5 == hashlib.md5(good).hexdigest()


def test_an_install_never_holds_what_another_process_puts_at_the_downloads_path(host, site, tmp_path):
    """The swap at whatever moment: an attacker who renames a thousand times a second, for ten installs."""
    order, _, good = _order(site)
    site.desire(("web", "1"))
    evil = tgz(file("who", b"evil"))
    to, stop = host.layout.download(order.name, order.file_name), threading.Event()

    def swap():
        mine = tmp_path / "mine"
        while not stop.wait(0.001):
            mine.write_bytes(evil)
            with contextlib.suppress(OSError):
                to.lstat()  # only what is there is replaced
                os.replace(mine, to)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for version in range(1, 11):
            name = f"web-{version}.tar.gz"
            (site.files / name).write_bytes(good)
            (site.files / f"{name}.md5").write_text(f"{hashlib.md5(good).hexdigest()}  {name}\n")
            site.desire(("web", str(version)))
            to = host.layout.download("web", name)
            cycle.run(host)
            assert (host.layout.agent("web").install(str(version)) / "who").read_text() == "good"
    finally:
        stop.set()
        thread.join(10)


def test_what_older_updaters_left_among_the_downloads_is_removed(host, site):
    downloads = host.layout.downloads
    downloads.mkdir(parents=True)
    for name in ("web-agent-1.0.tar.gz.part", "web-agent-1.0.tar.gz.part.validator", "agent"):
        (downloads / name).write_bytes(b"left")
    (downloads / "gone").mkdir()
    (downloads / "gone" / "gone-1.tar.gz.part").write_bytes(b"left")
    (downloads / "link").symlink_to(site.files)
    site.publish(version="1")
    site.desire(("agent", "1"))
    assert cycle.run(host).matches
    assert list(downloads.iterdir()) == []
    assert site.files.is_dir()


def test_downloads_that_cannot_be_tidied_keep_no_order_from_being_followed(host, site):
    host.layout.own.mkdir(parents=True)
    host.layout.downloads.write_bytes(b"a file where the directory should be")
    site.publish(version="1")
    site.desire(("agent", "1"))
    result = cycle.run(host)
    assert [order.name for order in result.orders] == ["agent"]
    assert "Not a directory" in result.turns[0].waits


def _order(site):
    good = tgz(file("who", b"good"), control=file("control", CHEAP.encode(), 0o755))
    (site.files / "web-1.tar.gz").write_bytes(good)
    digest = hashlib.md5(good).hexdigest()
    return Desired("web", "1", site.url, digest, "start"), download.Expected("md5", digest, "test"), good
