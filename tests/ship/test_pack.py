"""What the packer makes, and what it refuses to make."""

import io
import subprocess
import tarfile
import zipfile

import pytest

from ship import pyz, wheels
from ship.pack import CHECKOUT, pack, version_of
from ship.wheels import WheelsError
from updater import __version__


@pytest.fixture(scope="module")
def inside(pyz):
    """The members of updater.pyz."""
    with zipfile.ZipFile(pyz) as archive:
        return archive.namelist()


def test_the_package_holds_three_files(tarball):
    assert tarball.name == f"ops-updater-{__version__}.tar.gz"
    with tarfile.open(tarball) as archive:
        found = [(m.name, m.isreg(), oct(m.mode)) for m in archive]
    assert found == [
        ("cfg.example.json", True, "0o644"),
        ("control", True, "0o755"),
        ("updater.pyz", True, "0o755"),
    ]


def test_md5sum_accepts_the_digest_file(tarball):
    done = subprocess.run(["md5sum", "--check", f"{tarball.name}.md5"], cwd=tarball.parent, capture_output=True)
    assert done.returncode == 0


def test_the_same_inputs_make_the_same_bytes(tarball, sources, wheelhouse, tmp_path):
    again = pack(tmp_path / "again", sources, wheelhouse)
    assert again.read_bytes() == tarball.read_bytes()


def test_a_package_of_changed_sources_has_libraries_of_its_own(wheelhouse):
    found = wheels.fetch(wheelhouse)
    names = {line for line in _bootstrap(pyz.build(CHECKOUT, found, 0)).splitlines() if line.startswith("CONTENT")}
    other = {line for line in _bootstrap(pyz.build(CHECKOUT, found[1:], 0)).splitlines() if line.startswith("CONTENT")}
    assert len(names | other) == 2


def _bootstrap(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read("__main__.py").decode()


@pytest.mark.parametrize("target", wheels.TARGETS, ids=lambda target: target.suffix)
def test_each_python_finds_its_extension_modules(inside, target):
    assert f"native/{target.suffix}/msgspec/_core.{target.suffix}.so" in inside
    assert f"native/{target.suffix}/isal/isal_zlib.{target.suffix}.so" in inside


def test_nothing_is_carried_that_the_daemon_does_not_need(inside):
    carried = {name.split("/")[1] for name in inside if name.startswith("pure/")}
    needed = {"certifi", "charset_normalizer", "click", "idna", "isal", "msgspec", "requests", "updater", "urllib3"}
    assert carried == needed


def test_the_terms_of_every_library_are_carried(inside):
    for name in (pin.name.replace("-", "_") for pin in wheels.pins()):
        assert any(m.startswith(f"licences/{name}-") and "LICEN" in m.upper().split("/", 1)[1] for m in inside), name


def test_a_damaged_wheel_is_not_used_but_fetched_again(wheelhouse, tmp_path):
    [good] = wheelhouse.glob("click-*.whl")
    (tmp_path / good.name).write_bytes(good.read_bytes() + b"more")
    [found] = wheels.fetch(tmp_path, [_click()])
    assert found.read_bytes() == good.read_bytes()


def test_a_wheel_with_another_digest_than_the_locked_ones_is_refused(tmp_path):
    with pytest.raises(WheelsError, match="DO NOT MATCH THE HASHES"):
        wheels.fetch(tmp_path, [_click()._replace(hashes=("0" * 64,))])


def test_a_library_that_is_locked_in_two_versions_is_refused(tmp_path):
    with pytest.raises(WheelsError, match="locked in two versions"):
        wheels.fetch(tmp_path, [_click(), _click()._replace(version="1")])


def _click():
    return next(pin for pin in wheels.pins() if pin.name == "click")


@pytest.mark.parametrize("line", ["", '__version__ = "../1"', '__version__ = ""', '__version__ = "1 0"'])
def test_a_version_that_hosts_would_refuse_is_not_packed(tmp_path, line):
    (tmp_path / "updater").mkdir()
    (tmp_path / "updater" / "__init__.py").write_text(line)
    with pytest.raises(WheelsError, match="no version that hosts would take"):
        version_of(tmp_path)
