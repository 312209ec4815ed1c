"""updater.pyz on a host that has a Python and nothing else, and on hosts that mean it ill."""

import ast
import os
import pty
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.agents import QUIET
from helpers.packaged import PYTHON, configure, libraries
from helpers.site import Site
from lab.fleet import end_all_of, until
from ship import pyz as packer
from updater import __version__

MAIN = Path(packer.HERE / "bootstrap" / "main.py")
ISOLATED = (PYTHON, "-IS")


def interpreters():
    """Other Pythons of this machine: version -> program. Those on PATH, and those installed beside the one we run in."""
    found = {}
    for minor in range(6, 20):
        name = f"python3.{minor}"
        for path in [shutil.which(name), *Path(sys.base_prefix).parent.glob(f"*/bin/{name}")]:
            if path and Path(path).read_bytes()[:4] == b"\x7fELF":  # and not a script that looks for one
                found[3, minor] = Path(path)
    return found


OTHERS = interpreters()
SERVED = {version: path for version, path in OTHERS.items() if (3, 11) <= version <= (3, 14)}
TOO_OLD = {version: path for version, path in OTHERS.items() if version < (3, 11)}


def shown(version):
    return "python{}.{}".format(*version)


@pytest.mark.parametrize("command", [(), ISOLATED], ids=["as a program", "with an isolated Python"])
def test_it_tells_its_version(pyz, bare, command):
    done = bare.run(*command, pyz, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"updater {__version__}\n", "")


def test_it_helps(pyz, bare):
    done = bare.run(pyz, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: updater [OPTIONS]")


def test_it_loads_nothing_that_is_installed_on_the_host(pyz, bare):
    done = bare.run(*ISOLATED, "-v", pyz, "run", "--help")
    assert done.returncode == 0
    assert "import 'msgspec._core'" in bare.run(*ISOLATED, "-v", pyz, "once", "-c", "/dev/null").stderr
    assert "site-packages" not in done.stderr


@pytest.mark.long
def test_it_starts_about_as_quickly_as_a_python_that_does_as_much(pyz, bare):
    bare.run(*ISOLATED, pyz, "--help")  # the first start unpacks
    plain = fastest(bare, *ISOLATED, "-c", "import argparse, http.client, json, logging, ssl, subprocess")
    assert fastest(bare, *ISOLATED, pyz, "--help") < 4 * plain


def fastest(bare, *command):
    """Seconds of the fastest of ten runs, which other work on the machine disturbs the least."""
    took = []
    for _ in range(10):
        began = time.monotonic()
        bare.run(*command)
        took.append(time.monotonic() - began)
    return min(took)


def test_it_upgrades_an_agent(package, bare, tmp_path):
    with Site(tmp_path / "site") as site:
        site.publish(control=QUIET)
        site.desire(("agent", "1"))
        (tmp_path / "root").mkdir()
        configure(tmp_path / "root", site.address)
        done = bare.run(*ISOLATED, package / "updater.pyz", "once", "-c", tmp_path / "root" / "cfg.json")
    end_all_of(tmp_path / "root")
    assert (done.returncode, done.stdout) == (0, "agent: changed\n")
    assert "Traceback" not in done.stderr


def test_a_terminal_gets_plain_lines_where_there_is_no_rich(pyz, bare, root):
    ours, theirs = pty.openpty()
    command = [*ISOLATED, pyz, "status", "-c", root / "cfg.json"]
    done = subprocess.run(command, env=bare.variables, stdin=theirs, stdout=theirs, check=False)
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert (done.returncode, shown) == (0, "ops-updater 1.0.0 stoped\r\n")


@pytest.mark.long
def test_five_first_starts_at_once_make_one_directory(package, bare):
    with ExitStack() as stack:
        command = (*ISOLATED, package / "updater.pyz", "run", "--help")
        starts = [stack.enter_context(bare.started(*command)) for _ in range(5)]
        for start in starts:
            assert (start.communicate(timeout=60)[1], start.returncode) == ("", 0)
    [name] = libraries(package)
    assert ".new-" not in name
    assert (package / name).stat().st_mode & 0o7777 == 0o700


def test_the_directory_holds_byte_code_that_no_later_start_has_to_write(package, bare):
    bare.run(package / "updater.pyz", "--version")
    [name] = libraries(package)
    sources = {path.relative_to(package) for path in (package / name).rglob("*.py")}
    compiled = {path.relative_to(package) for path in (package / name).rglob("*.pyc")}
    assert len(sources) == len(compiled) > 100


def test_a_first_start_that_was_killed_is_made_good_by_the_next(package, bare):
    with bare.started(*ISOLATED, package / "updater.pyz", "--version"):
        until("it unpacks", lambda: any(package.glob(".lib-*/click/core.py")))
    assert all(".new-" in name for name in libraries(package)), "the kill came too late to show anything"

    assert bare.run(package / "updater.pyz", "--version").returncode == 0
    assert sum(".new-" not in name for name in libraries(package)) == 1


def test_what_a_killed_start_left_is_swept_away_when_it_is_old(package, bare):
    left = package / ".lib-0123-cpython-311.new-abcdef"
    left.mkdir()
    os.utime(left, (0, 0))
    bare.run(package / "updater.pyz", "--version")
    assert left.name not in libraries(package)


def planted(package, bare):
    """A directory of the right name whose `updater.cli.main` leaves a trace; returns it and where the trace would be."""
    bare.run(package / "updater.pyz", "--version")
    [name] = libraries(package)
    shutil.rmtree(package / name)
    evil = package / name
    (evil / "updater" / "cli").mkdir(parents=True, mode=0o700)
    evil.chmod(0o700)
    trace = package / "trace"
    (evil / "updater" / "cli" / "main.py").write_text(f"open({str(trace)!r}, 'w')\ndef main(**_): print('evil')\n")
    return evil, trace


def open_to_all(evil):
    evil.chmod(0o777)


def of_another_user(evil):
    if os.geteuid() != 0:
        pytest.skip("only root can make a directory another user's")
    os.chown(evil, 65534, 65534)


def a_link(evil):
    evil.rename(evil.with_name("elsewhere"))
    evil.symlink_to("elsewhere")


def a_file(evil):
    shutil.rmtree(evil)
    evil.touch(mode=0o700)


@pytest.mark.long
@pytest.mark.parametrize("how", [open_to_all, of_another_user, a_link, a_file], ids=lambda how: how.__name__)
def test_what_others_may_have_planted_is_not_loaded(package, bare, how):
    evil, trace = planted(package, bare)
    assert bare.run(package / "updater.pyz", "--version").stdout == "evil\n", "what root itself puts there is loaded"
    trace.unlink()
    how(evil)
    done = bare.run(package / "updater.pyz", "--version")
    assert (done.returncode, done.stdout) == (0, f"updater {__version__}\n")
    assert not trace.exists()
    assert libraries(bare.home / ".cache" / "ops-updater") == [evil.name], "it took the next place"


@pytest.mark.long
def test_without_any_place_it_unpacks_for_this_run_only(package, bare, tmp_path):
    evil, trace = planted(package, bare)
    evil.chmod(0o755)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = bare.run(package / "updater.pyz", "--version", XDG_CACHE_HOME="/dev/null", TMPDIR=str(temporary))
    assert done.returncode == 0
    assert not trace.exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("version", sorted(SERVED), ids=shown)
def test_other_pythons_are_served(package, bare, tmp_path, version):
    configure(tmp_path)
    for command in (("--version",), ("once", "-c", tmp_path / "cfg.json")):
        done = bare.run(SERVED[version], "-IS", package / "updater.pyz", *command)
        assert "Traceback" not in done.stderr
    assert done.returncode == 3, "there is no meta, but all was loaded that is needed to ask it"
    assert "Connection refused" in done.stderr


@pytest.mark.parametrize("version", sorted(TOO_OLD), ids=shown)
def test_an_old_python_is_told_what_is_needed(pyz, bare, version):
    done = bare.run(TOO_OLD[version], pyz, "--version")
    assert done.returncode == 2
    assert done.stderr.startswith("updater.pyz: needs Python 3.11 or newer, but this is {}.{} (".format(*version))
    assert done.stderr.count("\n") == 1


def test_the_bootstrap_can_be_read_by_python_3_6():
    ast.parse(MAIN.read_text(), feature_version=(3, 6))


def test_a_python_without_fitting_libraries_is_told_which_there_are(pyz, bare, tmp_path):
    with zipfile.ZipFile(pyz) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["__main__.py"] = members["__main__.py"].replace(b'SUFFIXES = "cpython-3', b'SUFFIXES = "pypy-')
    members["__main__.py"] = members["__main__.py"].replace(b" cpython-3", b" pypy-")
    other = tmp_path / "updater.pyz"
    other.write_bytes(packer.zipped(members, 0))
    done = bare.run(PYTHON, other, "--version")
    assert done.returncode == 2
    assert done.stderr.startswith("updater.pyz: is made for CPython 3.11, 3.12, 3.13, 3.14 on x86_64 and aarch64 Linux")


def test_a_damaged_file_is_told_so_and_leaves_nothing(package, bare):
    pyz = package / "updater.pyz"
    with zipfile.ZipFile(pyz) as archive:
        at = archive.getinfo("pure/requests/sessions.py").header_offset + 200
    data = bytearray(pyz.read_bytes())
    data[at : at + 50] = bytes(50)
    pyz.write_bytes(data)
    done = bare.run(pyz, "--version")
    assert done.returncode == 2
    assert done.stderr.startswith("updater.pyz: cannot unpack its libraries: ")
    assert libraries(package) == libraries(bare.home) == []
