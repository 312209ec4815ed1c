"""What an unpacking costs its host, at most, and what it says when the host is in trouble."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.archives import BOMBS
from helpers.good_archives import CONTROL_SCRIPT
from helpers.tarbytes import directory, file, gz, hard_link, header, pax, symlink, tgz
from helpers.trees import listing
from helpers.unpacking import Host
from updater.artifact.extract import Unpacked, opened, unpack
from updater.artifact.tar_reader import Limits
from updater.errors import Refused, TryLater

STRACE = pytest.mark.usefixtures("strace")
IS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
MOUNTS = pytest.mark.usefixtures("mounts")
SOME = tgz(directory("lib/"), file("lib/x", b"x" * 5000), hard_link("lib/y", "lib/x"), symlink("x", "lib/x"))
BOUNDED = "resource.setrlimit(resource.RLIMIT_AS, (512 << 20,) * 2); resource.setrlimit(resource.RLIMIT_CPU, (20, 20))"


def unpack_path(tarball: Path, into: Path) -> Unpacked:
    with opened(tarball) as file:
        return unpack(file, into)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_512_mb_and_20_seconds(host: Host, name: str) -> None:
    said = host.unpack_in_child(BOMBS[name].build(), BOUNDED)
    assert said.startswith("Refused: ")
    assert BOMBS[name].verdict in said
    assert not host.into.exists()


# Of each limit: the archive that is just within it, and the one that is just beyond.
@pytest.mark.parametrize(
    ("limits", "within", "beyond", "refusal"),
    [
        (Limits(members=3), [file("a"), file("b")], [file("a"), file("b"), file("c")], "more than 3 members"),
        (Limits(members=3), [file("a/b")], [file("a/b/c")], "with the directories that they imply"),
        (Limits(members=3), [pax(kind=b"g"), file("a")], [pax(kind=b"g"), pax(kind=b"g"), file("a")], "more than 3"),
        (Limits(file=1000), [file("a", b"x" * 1000)], [file("a", b"x" * 1001)], "is too large: 1001 bytes where 1000"),
        (Limits(total=4096), [file("a", b"x" * 2560)], [file("a", b"x" * 2561)], "more than the 4096 bytes"),
        (
            Limits(total=4096),
            [file("a"), file("b", b"x")],
            [file("a", b"x"), file("b", b"x"), file("c", b"x")],
            "more than the 4096 bytes",
        ),
        (Limits(header=16), [pax(b"16 comment=aaaa\n")], [pax(b"17 comment=aaaaa\n")], "is too large: 17 bytes"),
        (Limits(path=9), [file("a/b/c/d/e")], [file("a/b/c/d/ee")], "longer than 9 bytes"),
        (Limits(path=8), [symlink("a", "b/b/b/b/")], [symlink("a", "b/b/b/b/b")], "longer than 8 bytes"),
        (Limits(part=7), [file("aaaaaaa")], [file("aaaaaaaa")], "more than 7 bytes"),
        (Limits(depth=2), [file("a/b")], [file("a/b/c")], "more than 2 directories deep"),
    ],
)
def test_each_limit_holds_to_the_byte(host: Host, limits: Limits, within, beyond, refusal: str) -> None:
    with pytest.raises(Refused, match=refusal):
        host.unpack(tgz(*beyond, file("z")), limits)
    host.unpack(tgz(*within) if limits.header != 16 else tgz(*within, file("z")), limits)


def test_the_ratio_is_not_asked_of_small_archives(host: Host) -> None:
    zeros = tgz(file("zeros", bytes(100_000)))
    assert len(zeros) * 100 < 100_000
    with pytest.raises(Refused, match="more than the 50000 bytes that a tarball of its size may"):
        host.unpack(zeros, Limits(ratio=100, lenient=50_000))
    host.unpack(zeros, Limits(ratio=100, lenient=110_000))


def test_nothing_of_a_file_is_written_before_its_size_is_known_to_fit(host: Host) -> None:
    with pytest.raises(
        TryLater, match=r'too full for member "x" of 1073741824 bytes: \d+ are free, 1125899906842624 of them reserved'
    ):
        host.unpack(gz(header("x", size=1 << 30)), Limits(ratio=1 << 40, reserve=1 << 50))


def test_free_space_is_counted_down_from_file_to_file(host: Host) -> None:
    disk = os.statvfs(host.top)
    free = disk.f_bavail * disk.f_frsize
    megabytes = [file(f"{n}", bytes(1 << 20)) for n in range(64)]
    with pytest.raises(TryLater, match="of them reserved"):
        host.unpack(tgz(*megabytes), Limits(ratio=1 << 20, reserve=free - (32 << 20)))


@pytest.mark.long
def test_memory_stays_small_whatever_the_archive(host: Host) -> None:
    noise = os.urandom(1 << 20)
    big = tgz(*(file(f"{n}", noise * 4 + bytes(4 << 20)) for n in range(8)))
    before = "read = lambda key: int(open('/proc/self/status').read().split(key)[1].split()[0]); rss = read('VmRSS:')"
    said = host.unpack_in_child(big, before, "print(read('VmHWM:') - rss)")
    result, kilobytes = said.splitlines()
    assert result == f"Unpacked(members=9, bytes={(64 << 20) + len(CONTROL_SCRIPT)}, skipped=())"
    assert int(kilobytes) < 6000


def test_without_isal_the_standard_library_inflates(host: Host) -> None:
    said = host.unpack_in_child(SOME, last="from updater.artifact import gzip_stream; print(gzip_stream.fastest())")
    assert "igzip_lib" in said or "isal" in said
    shutil.rmtree(host.into)
    code = (
        "import sys; sys.modules['isal'] = None\n"
        + "from updater.artifact import gzip_stream; print(gzip_stream.fastest())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "zlib.Decompress" in said


def test_modes_do_not_depend_on_the_umask_or_a_set_gid_parent(host: Host) -> None:
    host.into.parent.chmod(0o2777)
    host.unpack_in_child(SOME, "import os; os.umask(0o077)")
    assert set(listing(host.into)) == {"control*", "lib/", "lib/x", "lib/y", "x@"}


def test_files_keep_their_times_unless_these_lie_in_the_future(host: Host) -> None:
    now = int(time.time())
    times = {"epoch": 0, "past": 1_700_000_000, "future": now + 100_000}
    host.unpack(tgz(*(file(name, mtime=at) for name, at in times.items())))
    found = {name: int((host.into / name).stat().st_mtime) for name in times}
    assert found["epoch"] == 0
    assert found["past"] == 1_700_000_000
    assert now - 1 <= found["future"] <= now + 60


def test_hard_links_are_one_file(host: Host) -> None:
    assert host.unpack(SOME) == Unpacked(members=5, bytes=5000 + len(CONTROL_SCRIPT))
    assert (host.into / "lib/x").samefile(host.into / "lib/y")


FAULTS = [
    ("write:error=ENOSPC:when=2", r"No space left on device \(\d+ bytes and \d+ inodes are free there\)"),
    ("write:error=EDQUOT:when=1", r"Disk quota exceeded \(\d+ bytes and \d+ inodes are free there\)"),
    ("write:error=EIO:when=3", "Input/output error"),
    ("mkdirat:error=ENOSPC:when=2", r"No space left on device \(.*"),
    ("mkdirat:error=EEXIST:when=2", r"File exists \(this file system takes two names of the archive for one, .*\)"),
    ("linkat:error=EMLINK:when=1", "Too many links"),
    ("symlinkat:error=EROFS:when=1", "Read-only file system"),
    ("fchmod:error=EPERM:when=1", "Operation not permitted"),
    ("utimensat:error=EIO:when=2", "Input/output error"),
    ("fsync:error=EIO:when=1", "Input/output error"),  # of the first file; strace counts in each thread
    ("fsync:error=EIO:when=2", "Input/output error"),  # of the top directory, at the latest
    ("fsync:error=ENOSPC:when=1+", r"No space left on device \(.*"),
]


@STRACE
@pytest.mark.parametrize(("fault", "words"), FAULTS, ids=lambda value: value.split(" ")[0])
def test_any_call_that_fails_is_trouble_of_the_host_and_leaves_nothing(host: Host, fault: str, words: str) -> None:
    archive = tgz(file("lib/x", b"x"), file("lib/z", b"z"), hard_link("lib/y", "lib/x"), symlink("x", "lib/x"))
    inject = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={fault.split(':')[0]}", "-e", f"inject={fault}")
    said = host.unpack_in_child(archive, before=inject)
    assert re.fullmatch(f"TryLater: cannot unpack into {host.into}: {words}", said)
    assert not os.path.lexists(host.into)


def _calls(host: Host, *members: bytes) -> list[str]:
    """The system calls of an unpacking by which files are made or synced, as strace writes them."""
    log = host.top.parent / f"{host.top.name}.log"
    trace = ("strace", "-f", "-y", "-o", str(log), "-e", "trace=fsync,openat,mkdirat,linkat,symlinkat")
    assert host.unpack_in_child(tgz(*members), before=trace).startswith("Unpacked")
    calls = [line.split(None, 1)[1] for line in log.read_text().splitlines()]
    return [call for call in calls if f"<{host.into.parent}" in call]


@STRACE
def test_every_file_and_directory_is_fsynced(host: Host) -> None:
    calls = _calls(host, *(file(f"d{n % 5}/{n}", b"x") for n in range(150)))
    synced = [call.split("<", 1)[1].split(">", 1)[0] for call in calls if call.startswith("fsync(")]
    assert sorted(synced) == sorted(str(path) for path in [host.into, *host.into.rglob("*")])


@STRACE
def test_only_we_may_enter_until_all_is_done_no_call_follows_a_link_and_symlinks_are_made_last(host: Host) -> None:
    """Second locks: no name that passes claims.py needs them."""
    calls = _calls(host, symlink("a", "d/x"), file("d/x"), symlink("d/s", ".."), file("e/x"), hard_link("e/y", "d/x"))
    assert [call.split(", ")[2][:4] for call in calls if call.startswith("mkdirat")] == ["0700"] * 3
    opened = [call for call in calls if call.startswith("openat") and f"<{host.into}" in call]
    assert len(opened) == 6  # the top, control, and two directories with a file each
    assert all("O_NOFOLLOW" in call for call in opened)
    assert all("O_CREAT|O_EXCL" in call for call in opened if "O_WRONLY" in call)
    made = [call.split("(")[0] for call in calls if "O_CREAT" in call or call.split("(")[0] in ("linkat", "symlinkat")]
    assert made == ["openat"] * 3 + ["linkat"] + ["symlinkat"] * 2


@STRACE
def test_a_slow_disk_does_not_pile_up_open_files(host: Host) -> None:
    slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:delay_enter=5000")
    many = tgz(*(file(f"{n}") for n in range(300)))
    said = host.unpack_in_child(many, "resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))", before=slow)
    assert said == f"Unpacked(members=301, bytes={len(CONTROL_SCRIPT)}, skipped=())"


@pytest.mark.parametrize("there", ["directory", "file", "dangling symlink"])
def test_a_directory_that_is_there_already_is_left_alone(host: Host, there: str) -> None:
    host.tarball.write_bytes(SOME)
    if there == "directory":
        (host.into / "below").mkdir(parents=True)
    elif there == "file":
        host.into.write_text("mine")
    else:
        host.into.symlink_to("nowhere")
    before = [path.lstat() for path in (host.into, *host.into.rglob("*"))]
    with pytest.raises(TryLater, match=r"cannot make .*: File exists"):
        unpack_path(host.tarball, host.into)
    assert [path.lstat() for path in (host.into, *host.into.rglob("*"))] == before


def test_what_is_missing_on_the_host_is_said(host: Host) -> None:
    with pytest.raises(TryLater, match=r"cannot open .*agent\.tar\.gz: No such file"):
        unpack_path(host.tarball, host.into)
    host.tarball.write_bytes(SOME)
    with pytest.raises(TryLater, match=r"cannot open .*missing: No such file"):
        unpack_path(host.tarball, host.top / "missing" / "new")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_tarball_that_is_no_file_is_refused_without_waiting(host: Host, make) -> None:
    make(host.tarball)
    with pytest.raises(Refused, match="is not a regular file"):
        unpack_path(host.tarball, host.into)
    assert not host.into.exists()


def test_too_few_descriptors_are_trouble_of_the_host(host: Host) -> None:
    open_at_once = tgz(file("a/x"), file("b/x"), file("c/x"))  # 0 to 4, the top, its three directories, a file
    said = host.unpack_in_child(open_at_once, "resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))")
    assert said == f"TryLater: cannot unpack into {host.into}: Too many open files"
    assert not host.into.exists()


def test_a_file_larger_than_the_process_may_write_is_trouble_of_the_host(host: Host) -> None:
    said = host.unpack_in_child(SOME, "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))")
    assert said == f"TryLater: cannot unpack into {host.into}: File too large"
    assert not host.into.exists()


def _on_tmpfs(host: Host, options: str, data: bytes) -> str:
    """Unpack in a child that alone sees a small file system; it prints what is left there."""
    host.into.parent.joinpath("small").mkdir()
    mount = f"""import subprocess, ctypes, os
if ctypes.CDLL(None, use_errno=True).unshare(0x20000): raise SystemExit(f"unshare: {{ctypes.get_errno()}}")
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", {options!r}, "none", {str(host.into.parent / "small")!r}], check=True)
from updater.artifact import extract as module
sys.argv[2] = {str(host.into.parent / "small" / "new")!r}
small = module.Limits(reserve=0)
whole, unpack = unpack, lambda tarball, into: whole(tarball, into, small)
"""
    return host.unpack_in_child(data, mount, "print(os.listdir(os.path.dirname(sys.argv[2])))")


@IS_ROOT
@MOUNTS
def test_a_disk_that_is_too_small_is_seen_before_it_is_full(host: Host) -> None:
    said = _on_tmpfs(host, "size=1m", tgz(*(file(f"{n}", b"x" * 4096) for n in range(255)), file("last", b"x" * 4096)))
    assert 'TryLater: the disk is too full for member "last" of 4096 bytes: 0 are free, 0 of them reserved' in said
    assert said.endswith("[]")


@IS_ROOT
@MOUNTS
def test_a_disk_without_inodes_is_trouble_of_the_host(host: Host) -> None:
    said = _on_tmpfs(host, "size=1m,nr_inodes=20", tgz(*(file(f"{n}") for n in range(30))))
    assert "No space left on device (" in said
    assert "and 0 inodes are free there)" in said
    assert said.endswith("[]")


@IS_ROOT
@MOUNTS
def test_a_disk_that_is_read_only_is_trouble_of_the_host(host: Host) -> None:
    said = _on_tmpfs(host, "size=1m,ro", SOME)
    assert "TryLater: cannot make " in said
    assert "Read-only file system" in said
