"""Who may read what meta writes: a database, a backup and an export are their owner's alone, whatever the umask."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest

from helpers.meta_people import Own, first_admin
from helpers.meta_server import REPOSITORY, meta
from meta.errors import Misconfigured
from meta.store import Store


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o177], ids=oct)
def umask(request):
    """Of this test and of what it starts."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.long
def test_everything_that_holds_records_is_its_owners_alone(umask, tmp_path):
    os.umask(0o022)
    served, home = tmp_path / "served", tmp_path / "home"
    served.mkdir()
    home.mkdir()
    os.umask(umask)
    with Own(served) as server:
        boss = first_admin(server, home)
        boss("set", "a", "version=1", "tarball=http://name:secret@releases.example/a")
        boss("export", "-o", str(tmp_path / "records.yaml"))
        done = meta("backup", str(tmp_path / "copy.db"), directory=served)
        assert done.returncode == 0, done.stderr
        found = sorted((served / "var").iterdir())
        assert [path.name for path in found] == ["meta.db", "meta.db-shm", "meta.db-wal"]
        files = (*found, tmp_path / "copy.db", tmp_path / "records.yaml")
        assert {path.name: mode(path) for path in files} == dict.fromkeys([path.name for path in files], "0o600")
    assert mode(served / "var") == "0o755"  # where pid files are


def test_the_first_admins_token_makes_a_database_for_its_owner_alone(umask, tmp_path):
    made = meta("token", "new", "me", "--role", "admin", "--database", "sqlite:///a/b/meta.db", directory=tmp_path)
    assert made.returncode == 0, made.stderr
    assert (mode(tmp_path / "a"), mode(tmp_path / "a/b"), mode(tmp_path / "a/b/meta.db")) == ("0o755", "0o755", "0o600")


@pytest.mark.parametrize(
    "url", ["sqlite:///{file}", "sqlite:///file:{file}?uri=true", "sqlite:///file://{file}?uri=true"]
)
def test_a_database_is_private_before_sqlite_opens_it(umask, url, tmp_path):
    file = tmp_path / "meta.db"
    watched = """
import os, sys
from meta.store import Store
file, url = sys.argv[1:]
modes = []
sys.addaudithook(lambda event, _: modes.append(oct(os.stat(file).st_mode & 0o777)) if event == "sqlite3.connect" else None)
store = Store(url)
store.upgrade()
store.close()
print(set(modes))
"""
    command = [sys.executable, "-c", watched, str(file), url.format(file=file)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("{'0o600'}\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["meta.db"]


def test_a_database_of_an_older_meta_is_closed_to_everybody_else(tmp_path, caplog):
    file = tmp_path / "meta.db"
    with closing(sqlite3.connect(file)) as older:
        older.execute("PRAGMA journal_mode=WAL")
        older.execute("CREATE TABLE t (x)")
        older.commit()
        for path in tmp_path.iterdir():
            path.chmod(0o644)
        with closing(Store(f"sqlite:///{file}")) as store:
            store.upgrade()
            assert {path.name: mode(path) for path in tmp_path.iterdir()} == {
                "meta.db": "0o600",
                "meta.db-wal": "0o600",
                "meta.db-shm": "0o600",
            }
    assert f"{file} could be read by everybody; its mode is 600 now" in caplog.messages


def test_what_a_group_may_do_with_a_database_is_left_to_its_owner(tmp_path, caplog):
    file = tmp_path / "meta.db"
    file.touch()
    file.chmod(0o660)
    with closing(Store(f"sqlite:///{file}")) as store:
        store.upgrade()
    assert (mode(file), caplog.messages) == ("0o660", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_who_serves_there(tmp_path):
    os.chown(tmp_path, 12345, 12346)
    with closing(Store(f"sqlite:///{tmp_path}/meta.db")) as store:
        store.upgrade()
        store.head()
        owners = {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()}
    assert owners == {(12345, 12346)}


@pytest.mark.long
def test_an_export_over_a_file_keeps_the_mode_that_it_has(tmp_path):
    served, home = tmp_path / "served", tmp_path / "home"
    served.mkdir()
    home.mkdir()
    file = tmp_path / "records.yaml"
    file.touch()
    file.chmod(0o644)
    with Own(served) as server:
        first_admin(server, home)("export", "-o", str(file))
    assert mode(file) == "0o644"


def test_a_backup_of_a_database_that_is_not_there_makes_none(tmp_path):
    with (
        closing(Store(f"sqlite:///{tmp_path}/mta.db")) as store,
        pytest.raises(Misconfigured, match="there is no database"),
    ):
        store.backup(tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []
