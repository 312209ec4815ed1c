"""The package, built once; where pip cannot have the wheels, these tests fail."""

import os
import shutil

import pytest

from helpers.packaged import Bare, configure, unpacked
from lab.fleet import end_all_of
from ship import wheels
from ship.pack import CHECKOUT, pack


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory):
    """A directory with all the wheels."""
    directory = tmp_path_factory.mktemp("wheels")
    wheels.fetch(directory)
    return directory


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """What a package is made from, as it is now: somebody may work on the checkout meanwhile."""
    directory = tmp_path_factory.mktemp("sources")
    shutil.copytree(CHECKOUT / "updater", directory / "updater")
    for name in ("control", "cfg.example.json"):
        shutil.copy(CHECKOUT / name, directory)
    return directory


@pytest.fixture(scope="session")
def tarball(tmp_path_factory, sources, wheelhouse):
    return pack(tmp_path_factory.mktemp("dist"), sources, wheelhouse)


@pytest.fixture(scope="session")
def fresh(tarball, tmp_path_factory):
    """A package that was never started, to copy."""
    return unpacked(tarball, tmp_path_factory.mktemp("fresh") / "package")


@pytest.fixture(scope="session")
def warm(fresh, tmp_path_factory):
    """A package that was started before; copies of it may be hard links, for nothing writes into these files."""
    directory = tmp_path_factory.mktemp("warm")
    shutil.copytree(fresh, directory / "package")
    assert Bare(directory).run(directory / "package" / "updater.pyz", "--version").returncode == 0
    return directory / "package"


@pytest.fixture(scope="session")
def pyz(warm):
    """An updater.pyz that was started before, for tests that change nothing about it."""
    return warm / "updater.pyz"


@pytest.fixture
def bare(tmp_path):
    return Bare(tmp_path / "bare")


@pytest.fixture
def package(fresh, tmp_path):
    """A package that was never started."""
    yield shutil.copytree(fresh, tmp_path / "package")
    end_all_of(tmp_path / "package")


@pytest.fixture
def root(warm, tmp_path):
    """An updater's root, with a blank in its name, that holds the package in two versions."""
    root = tmp_path / "a root"
    for version in ("1.0.0", "1.0.1"):
        shutil.copytree(warm, root / "ops-updater" / version, copy_function=os.link)
    (root / "ops-updater" / ".version").write_text("1.0.0\n")
    configure(root)
    yield root
    end_all_of(root)
