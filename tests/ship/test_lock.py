"""requirements.lock: complete, and of every part of it the right subset; and that `./control install` takes nothing else."""

import os
import shutil
import subprocess
import sys
import venv

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from ship import locked
from ship.locked import CHECKOUT, LOCK, LockError
from ship.wheels import MINORS

PINS = locked.read(LOCK.read_text())
GROUPS = locked.groups()


@pytest.mark.parametrize("group", GROUPS)
def test_the_lock_holds_what_setup_cfg_asks_for_within_its_ranges(group):
    versions = {pin.name: pin.version for pin in PINS}
    for wanted in map(Requirement, GROUPS[group]):
        assert locked.normal(wanted.name) in versions, f"{wanted} is not locked: run ./control lock"
        assert wanted.specifier.contains(versions[locked.normal(wanted.name)]), f"{wanted}: run ./control lock"


@pytest.mark.parametrize("minor", MINORS)
def test_every_python_that_is_served_gets_one_version_of_each_package(minor):
    environment = {"python_version": minor, "python_full_version": f"{minor}.0", "sys_platform": "linux"}
    names = [pin.name for pin in PINS if _applies(pin.requirement, environment)]
    assert sorted(set(names)) == sorted(names)
    assert {"flask", "pytest", "ruff", "thriftpy2", "psycopg-binary", "pip", "setuptools", "wheel", "uv"} <= set(names)


def _applies(requirement, environment):
    marker = requirement.partition(";")[2]
    return not marker or Marker(marker).evaluate(environment)


def test_the_lock_says_what_to_install_and_not_from_where():
    assert "://" not in LOCK.read_text()
    assert all(pin.hashes and all(len(digest) == 64 for digest in pin.hashes) for pin in PINS)


def test_a_group_brings_what_it_needs_in_turn_and_nothing_else():
    base, tests = ({pin.name for pin in locked.select(PINS, locked.roots(names))} for names in (["base"], ["test"]))
    assert {"flask", "werkzeug", "markupsafe", "sqlalchemy", "isal"} <= base
    assert not base & {"pytest", "pluggy", "psycopg", "kazoo", "pip", "uv", "ruff"}
    assert {"pytest", "pluggy", "psycopg-binary"} <= tests


def test_a_part_of_the_lock_can_be_read_again():
    assert [pin[:4] for pin in locked.read("\n".join(map(str, PINS)))] == [pin[:4] for pin in PINS]


def test_an_extra_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(LockError, match=r"no extra is called 'postgres'; there are .*elves, .*postgresql, "):
        locked.roots(["base", "postgres"])


def test_a_package_that_is_not_locked_is_refused_with_the_way_out():
    with pytest.raises(LockError, match=r"requirements\.lock lacks no-such: run \./control lock"):
        locked.select(PINS, ["click", "No_Such"])


@pytest.fixture
def checkout(tmp_path):
    """A copy of what an installation is made from."""
    for name in ("control", "setup.cfg", "pyproject.toml", "requirements.lock"):
        shutil.copy(CHECKOUT / name, tmp_path)
    shutil.copytree(CHECKOUT / "ship", tmp_path / "ship")
    return tmp_path


def install(checkout, *extras, **environment):
    command = [checkout / "control", "install", *extras]
    given = os.environ | {"PYTHON": sys.executable} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=given, cwd="/")


def test_install_refuses_an_extra_that_does_not_exist_before_it_installs_anything(checkout):
    done = install(checkout, "nothing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("control: no extra is called 'nothing'; there are build, elves, ")
    assert not (checkout / ".venv").exists()


@pytest.mark.long
def test_install_takes_no_file_but_those_that_are_locked(checkout, wheelhouse, tmp_path_factory):
    offered = tmp_path_factory.mktemp("offered")
    for pin in locked.select(PINS, locked.roots(["build"])):
        shutil.copy(next(wheelhouse.glob("click-*.whl")), offered / f"{pin.name}-{pin.version}-py3-none-any.whl")
    venv.create(checkout / ".venv", with_pip=True, symlinks=True)
    done = install(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(offered))
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert "the installation failed; see above, then run ./control install again" in done.stderr
    assert not (checkout / ".venv" / ".made-from").exists()


@pytest.mark.parametrize("extras", [(), ("elves",), ("postgresql", "elves")])
def test_what_is_installed_from_this_very_lock_is_not_installed_again(checkout, extras):
    _pretend_installed(checkout, "elves postgresql")
    assert (done := install(checkout, *extras)).returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("changed", ["setup.cfg", "requirements.lock", ".extras"])
def test_another_lock_or_another_extra_installs_again(checkout, changed):
    _pretend_installed(checkout, "elves")
    if changed == ".extras":
        done = install(checkout, "postgresql", PIP_NO_INDEX="1", PIP_FIND_LINKS="/nowhere")
    else:
        (checkout / changed).write_text((checkout / changed).read_text() + "\n")
        done = install(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS="/nowhere")
    assert "control: installing into .venv" in done.stderr
    assert done.returncode == 1


def _pretend_installed(checkout, extras):
    venv.create(checkout / ".venv", with_pip=False, symlinks=True)
    command = ["cksum", "setup.cfg", "pyproject.toml", "requirements.lock"]
    made_from = subprocess.run(command, cwd=checkout, capture_output=True, check=True).stdout
    (checkout / ".venv" / ".made-from").write_bytes(made_from + b"compat INT,HUP\n")
    (checkout / ".venv" / ".extras").write_text(f"{extras}\n")
