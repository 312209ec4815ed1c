"""File systems as hosts have them: overlays (containers' images), mounts that forbid programs, links that lead nowhere.
With real mounts, in a mount namespace of the test's own."""

import os
import subprocess
import sys

import pytest

from helpers import machine
from helpers.agents import QUIET, install
from lab.fleet import Host
from updater import control, files, places, processes
from updater.errors import Misconfigured, TryLater

UPDATER = f"{sys.executable} -m updater.cli"


@pytest.fixture
def host(tmp_path, site, mounts):
    with Host(
        tmp_path / "h1", site.address, interval=60, watch=0, timeouts={"start": 5, "stop": 5, "status": 5}
    ) as made:
        yield made


def in_mounts(commands, **variables):
    """What a shell with mounts of its own says; every command must go well."""
    given = os.environ | {name: str(value) for name, value in variables.items()}
    shell = ["unshare", "-m", "sh", "-euc", commands]
    done = subprocess.run(shell, env=given, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


OVERLAY = """
mount -t tmpfs none "$over" && mkdir "$over/upper" "$over/work"
mount -t overlay overlay -o lowerdir="$root",upperdir="$over/upper",workdir="$over/work" "$root"
"""


@pytest.fixture
def over(tmp_path, mounts):
    (tmp_path / "over").mkdir()
    (tmp_path / "low").mkdir()
    try:
        in_mounts(OVERLAY, root=tmp_path / "low", over=tmp_path / "over")
    except AssertionError as e:
        machine.require(f"overlays cannot be mounted here: {str(e)[-200:]}")
    return tmp_path / "over"


def whole(root, version, current=False):
    """An install of our own in the image."""
    directory = install(root, "agent", version, QUIET, current)
    (directory / ".installed").write_text('{"md5": "", "sha256": "", "at": 1}')
    return directory


def test_an_old_version_of_the_image_is_removed_where_it_is_once(host, site, over):
    whole(host.root, "1")
    whole(host.root, "2", current=True)
    site.publish(version="3", control=QUIET)
    site.desire(("agent", "3"))
    said = in_mounts(
        OVERLAY + f'cd /; {UPDATER} once -c "$root/cfg.json"; ls -A "$root/agent"; {UPDATER} once -c "$root/cfg.json"; '
        f'cat "$root/agent/.version"; cd "$root/agent/3"; ./control status; ./control stop',
        root=host.root,
        over=over,
    )
    assert "cross-device" not in said
    assert said.count("prune 1") == 1, said
    assert "\n.version\n2\n3\n" in said
    assert "\n3\nstarted\n" in said
    assert site.gets == ["/agent-3.tar.gz.md5", "/agent-3.tar.gz"], "fetched once"


def test_what_the_image_has_in_the_place_of_a_version_makes_room_for_it_once(host, site, over):
    whole(host.root, "1", current=True)
    (host.root / "agent" / "2" / "half").mkdir(parents=True)
    site.publish(version="2", control=QUIET)
    site.desire(("agent", "2"))
    said = in_mounts(
        OVERLAY + f'cd /; {UPDATER} once -c "$root/cfg.json"; {UPDATER} once -c "$root/cfg.json"; '
        'ls -A "$root/agent/2"; cd "$root/agent/2"; ./control status; ./control stop',
        root=host.root,
        over=over,
    )
    assert "cross-device" not in said
    assert "half" not in said
    assert "started" in said
    assert site.gets == ["/agent-2.tar.gz.md5", "/agent-2.tar.gz"]


def test_a_removal_that_is_cut_off_leaves_nothing_that_is_taken_for_whole(tmp_path, over):
    """The marker goes first: what the kernel refuses to remove next stays, and is no install."""
    low = tmp_path / "low"
    whole(low, "1")
    program = f"""
from pathlib import Path
from updater import files
path = Path({str(low)!r}, "agent/1")
try: files.remove_directory(path, ".installed")
except files.TryLater as e: print(e)
print(sorted(p.name for p in path.iterdir()))
"""
    said = in_mounts(
        OVERLAY + 'mount --bind "$root/agent/1/control" "$root/agent/1/control"; "$python" -c "$program"',
        root=low,
        over=over,
        python=sys.executable,
        program=program,
    )
    assert said.endswith("['control']\n")


def test_a_root_that_is_mounted_noexec_is_named_before_anything_is_fetched(host, site):
    site.publish(control=QUIET)
    site.desire(("agent", "1"))
    said = in_mounts(
        f'cp "$root/cfg.json" "$root.json"; mount -t tmpfs -o noexec none "$root"; cp "$root.json" "$root/cfg.json"; '
        f'cd /; {UPDATER} once -c "$root/cfg.json" || [ $? = 1 ]; echo holds $(ls "$root")',
        root=host.root,
    )
    assert f"agent: {host.root} is mounted noexec, so no program there can be run" in said
    assert "\nholds cfg.json\n" in said, "no agent was begun"
    assert site.gets == []


def test_a_version_on_a_mount_without_exec_is_named_before_the_old_one_is_stopped(host, site):
    whole(host.root, "1", current=True)
    site.desire(("agent", "1"))
    assert host.run("once").returncode == 0
    whole(host.root, "2")
    pid = (host.root / "agent" / "1" / "pid").read_text()
    site.desire(("agent", "2"))
    said = in_mounts(
        'mount --bind "$root/agent/2" "$root/agent/2"; mount -o remount,bind,noexec "$root/agent/2"; '
        f'cd /; {UPDATER} once -c "$root/cfg.json" || [ $? = 1 ]',
        root=host.root,
    )
    assert f"{host.root}/agent/2 is mounted noexec" in said
    assert host.current("agent") == "1"
    assert (host.root / "agent" / "1" / "pid").read_text() == pid
    assert control.status(host.root / "agent" / "1", 5).text == "started"
    processes.end_all_of(host.root)


def test_an_agent_that_is_there_already_on_such_a_mount_says_so_in_its_status(host):
    whole(host.root, "1", current=True)
    said = in_mounts(
        'mount --bind "$root" "$root"; mount -o remount,bind,noexec "$root"; '
        f'cd /; {UPDATER} status -c "$root/cfg.json"',
        root=host.root,
    )
    assert f"exec `./control status` fail: {host.root} is mounted noexec" in said


def test_links_that_lead_nowhere_are_named(tmp_path):
    link = tmp_path / "agent"
    link.symlink_to("/nonexistent/disk")
    words = f"{link} is a link to /nonexistent/disk, which is not there"
    assert places.dangling(link / "1" / "control") == words
    assert places.dangling(tmp_path / "none") == ""
    with pytest.raises(TryLater, match=r"cannot make the directory .*which is not there"):
        files.make_directory(link)
    with pytest.raises(Misconfigured, match="is a link to /nonexistent/disk, which is not there"):
        places.check(link)
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert "is a link to loop" in places.dangling(loop)


def test_an_agent_whose_directory_is_such_a_link_says_so_and_fetches_nothing(host, site):
    (host.root / "agent").symlink_to("/nonexistent/disk")
    site.publish(control=QUIET)
    site.desire(("agent", "1"))
    done = host.run("once")
    assert done.returncode == 1
    assert f"agent: {host.root}/agent is a link to /nonexistent/disk, which is not there" in done.stdout
    assert site.gets == []


def test_a_version_that_is_such_a_link_says_so_in_its_status(host):
    (host.root / "agent").mkdir()
    (host.root / "agent" / ".version").write_text("1")
    (host.root / "agent" / "1").symlink_to("/nonexistent/1")
    said = host.run("status").stdout
    assert f"{host.root}/agent/1 is a link to /nonexistent/1, which is not there" in said
