"""File systems as hosts have them: overlays (containers' images), mounts that forbid programs, links that lead nowhere.
With real mounts, in a mount namespace of the test's own."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import machine
from helpers.agents import QUIET, install
from lab.fleet import Host, end_all_of
from updater import durable_files, places
from updater.errors import Misconfigured, TryLater
from updater.host import control_script
from updater.host.config import Config
from updater.host.context import Host as UpdaterHost
from updater.host.memories import Memories
from updater.model.layout import Layout
from updater.net.http import Http
from updater.reconcile import cycle

UPDATER = f"{sys.executable} -m updater.cli"
# A root that is asked for its rights like everybody else, so that a directory without any is closed to it.
AS_USUAL = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


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


@pytest.mark.long
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


@pytest.mark.long
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
from updater import durable_files
path = Path({str(low)!r}, "agent/1")
try: durable_files.remove_directory(path, ".installed")
except durable_files.TryLater as e: print(e)
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


@pytest.mark.long
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
    assert control_script.status(host.root / "agent" / "1", 5).text == "started"
    end_all_of(host.root)


def on_noexec_mount(host, version):
    """What a cycle says when this version of the agent cannot be run for its mount; it must not reach what is desired."""
    return in_mounts(
        'mount --bind "$place" "$place"; mount -o remount,bind,noexec "$place"; '
        f'cd /; {UPDATER} once -c "$root/cfg.json" || [ $? = 1 ]',
        root=host.root,
        place=host.root / "agent" / version,
    )


def test_such_a_version_is_named_before_a_switch_that_needs_no_stop(host, site):
    whole(host.root, "1", current=True)
    whole(host.root, "2")
    site.desire(("agent", "2"))
    said = on_noexec_mount(host, "2")
    assert f"switch failed: {host.root}/agent/2 is mounted noexec" in said
    assert host.current("agent") == "1"
    assert control_script.status(host.root / "agent" / "1", 5).text == "started", "what there is runs meanwhile"
    end_all_of(host.root)


def test_such_a_version_is_named_before_what_is_left_of_a_deleted_one_is_ended(host, site):
    whole(host.root, "2")
    (host.root / "agent" / ".version").write_text("1\n")
    site.desire(("agent", "2"))
    said = on_noexec_mount(host, "2")
    assert f"stop failed: {host.root}/agent/2 is mounted noexec" in said
    assert host.current("agent") == "1"


@pytest.mark.long
def test_a_way_back_to_such_a_version_leaves_what_is_there(host, site):
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"watch": 60}))
    for version in ("1", "2"):
        whole(host.root, version, current=version == "1")
        site.desire(("agent", version))
        assert host.run("once").returncode == 0
    control_script.run(host.root / "agent" / "2", "stop", 5)
    said = on_noexec_mount(host, "1")
    assert "reject 2" in said
    assert f"stop failed: {host.root}/agent/1 is mounted noexec" in said
    assert host.current("agent") == "2"
    assert host.run("once").returncode == 1
    assert host.current("agent") == "1", "and once it can be run, it is"
    assert control_script.status(host.root / "agent" / "1", 5).text == "started"
    end_all_of(host.root)


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
        durable_files.make_directory(link)
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


def updater(host, *words):
    """What the updater says where files have rights, and its exit code."""
    command = [*AS_USUAL, sys.executable, "-m", "updater.cli", *words, "-c", str(host.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def closed():
    """Closes a directory, and opens it when the test is over."""
    made = []

    def close(directory):
        directory.chmod(0)
        made.append(directory)

    yield close
    for directory in made:
        directory.chmod(0o755)


@pytest.mark.long
@pytest.mark.parametrize("which", ["odd", "odd/1"])
def test_an_agent_that_cannot_be_looked_at_costs_the_others_nothing(host, site, closed, which):
    whole(host.root, "1", current=True)
    install(host.root, "odd", "1", QUIET)
    closed(host.root / which)
    site.desire(("agent", "1"), ("odd", "1"))
    words = f"{host.root}/{which}"
    code, said = updater(host, "status")
    assert (code, "Traceback" in said) == (0, False), said
    assert words in said
    assert "Permission denied" in said
    code, said = updater(host, "plan")
    assert (code, "Traceback" in said) == (0, False), said
    assert "agent: start 1" in said
    assert words in said
    code, said = updater(host, "once")
    assert (code, "Traceback" in said) == (1, False), said
    assert words in said
    assert control_script.status(host.root / "agent" / "1", 5).text == "started"
    assert [one["name"] for one in site.reports[-1]["realAgents"]] == ["agent"]


@pytest.mark.long
def test_an_agent_whose_state_cannot_be_read_costs_the_others_nothing(host, site, closed):
    for name in ("odd", "other"):
        install(host.root, name, "1", QUIET)
    site.desire(("odd", "1"), ("other", "1"))
    assert updater(host, "once")[0] == 0
    memory, downloads = host.root / ".updater" / "agents" / "odd.json", host.root / ".updater" / "downloads"
    for name in ("odd", "other"):
        (downloads / name / "old").mkdir(parents=True)
    closed(memory)
    closed(downloads / "odd")
    site.desire(("odd", "1"), site.entry(name="other", cmd="stop"))
    code, said = updater(host, "plan")
    assert (code, "Traceback" in said) == (0, False), said
    assert "other: stop 1" in said
    assert f"odd: cannot read {memory}: Permission denied" in said
    code, said = updater(host, "once")
    assert (code, "Traceback" in said) == (1, False), said
    assert control_script.status(host.root / "other" / "1", 5).text == "stoped"
    assert "odd: old downloads cannot be removed now" in said
    assert not (downloads / "other").exists()


def test_an_order_for_an_agent_that_cannot_be_looked_at_is_not_taken_for_one_for_a_new_agent(host, site, closed):
    install(host.root, "odd", "1", QUIET)
    site.publish(name="odd", version="2", control=QUIET)
    closed(host.root / "odd")
    site.desire(("odd", "2"))
    code, said = updater(host, "once")
    assert (code, site.gets) == (1, []), said


def test_a_control_that_may_not_be_looked_at_is_a_status_in_words(host, closed):
    directory = install(host.root, "agent", "1", "#!/bin/sh\n")
    program = (
        "from pathlib import Path; from updater.host import control_script; import os, sys; path = Path(sys.argv[1])\n"
        "os.chmod(path, 0); print(control_script.status(path, 5).text)"
    )
    closed(directory)
    command = [*AS_USUAL, sys.executable, "-c", program, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "exec `./control status` fail: Permission denied\n", done.stderr


TOO_LONG = Path(
    "/" + "x" * 300
)  # stat's ENAMETOOLONG is to pathlib what EIO and ESTALE are: none of those that it expects


def test_a_look_raises_nothing_whatever_the_disk_answers():
    questions = (places.exists, places.is_missing, places.is_directory, places.is_file, places.is_link)
    assert [ask(TOO_LONG / "below") for ask in questions] == [False] * 5
    assert [ask(Path("/a\0b")) for ask in questions] == [False, True, False, False, False]
    assert places.dangling(TOO_LONG / "below") == ""
    assert places.noexec(TOO_LONG / "below") == ""
    error = OSError(errno.EIO, "Input/output error", str(TOO_LONG))
    assert str(durable_files.trouble("cannot read it", error)) == "cannot read it: Input/output error"
    for touch in (
        durable_files.make_directory,
        durable_files.remove_tree,
        durable_files.settle,
        durable_files.is_executable_file,
    ):
        with pytest.raises(TryLater, match="File name too long"):
            touch(TOO_LONG)


class Broken(Memories):
    """The memories of a disk that fails for one agent."""

    def of(self, name):
        if name == "odd":
            raise OSError(errno.ESTALE, "Stale file handle")
        return super().of(name)


def test_an_error_of_the_disk_that_nobody_has_wrapped_costs_one_agent_its_turn(tmp_path):
    install(tmp_path, "agent", "1", QUIET)
    install(tmp_path, "odd", "1", QUIET)
    made = UpdaterHost(Layout(tmp_path), Config("127.0.0.1:1", interval=60), Http())
    made.memories = Broken(made.layout.memories)
    seen = cycle.look(made, ["agent", "odd"])
    assert seen["agent"].status.text == "stoped"
    assert "Stale file handle" in seen["odd"].trouble
