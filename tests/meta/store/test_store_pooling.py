"""PostgreSQL behind a real PgBouncer: sessions are pooled well, transactions are refused in words."""

import logging
from contextlib import closing
from urllib.parse import quote

import pytest

from helpers.databases import database, execute
from helpers.keeping import NOW, Meta
from helpers.meta_server import MetaServer, meta
from helpers.pgbouncer import pgbouncer
from helpers.threads import in_threads
from lab.ports import free_port
from meta.errors import Misconfigured, TryLater
from meta.records.history import Edit
from meta.records.model import Record, RecordSet, Release
from meta.store import Store
from meta.store.postgresql.pooling import settings_of

RECORDS = RecordSet(records=(Record("a", Release("1"), "http://r"),))
IGNORING = "ignore_startup_parameters = options"


@pytest.fixture
def url(tmp_path):
    with database("postgresql", tmp_path) as url:
        yield url


def test_options_are_read_as_postgresql_reads_them():
    assert settings_of("-c a=1s -cb=2 --c=3 -c a=4ms") == {"a": "4ms", "b": "2", "c": "3"}
    assert settings_of(r"-c search_path=meta,\ public --Lock-Timeout=1 -d 5") == {
        "search_path": "meta, public",
        "lock_timeout": "1",
    }


def timeouts(store):
    with store._database.reading() as connection:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        return [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names]


def test_a_server_that_takes_our_time_outs_is_not_spoken_of(url, caplog):
    with closing(Store(f"{url}?options=-cstatement_timeout%3D12000")) as store:
        store.upgrade()
        assert timeouts(store) == ["12s", "5s", "10s"]
    assert caplog.text == ""


def test_what_else_the_url_asks_of_a_server_is_left_as_it_is(url, caplog):
    options = r"-c search_path=meta,\ public --statement-timeout=30s -c TimeZone=Asia/Tokyo"
    with closing(Store(f"{url}?options={quote(options)}")) as store:
        assert timeouts(store) == ["30s", "5s", "10s"]
        with store._database.reading() as connection:
            shown = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in ("search_path", "TimeZone")]
    assert shown == ["meta, public", "Asia/Tokyo"]
    assert caplog.text == ""


def with_option(url):
    return Store(f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3Dmeta")


def test_what_else_the_url_asks_of_a_pooler_is_named_where_it_may_not_hold(url, tmp_path, caplog):
    with pgbouncer(url, tmp_path, "session") as pooled, closing(with_option(pooled)) as store:
        assert timeouts(store) == ["10s", "5s", "10s"]
    assert "are set by a statement of each session; nor does it seem to take search_path" in caplog.text


@pytest.mark.parametrize("lines", [(), (IGNORING,)], ids=["refuses options", "ignores options"])
def test_where_sessions_are_pooled_everything_works_and_one_line_tells_of_the_time_outs(url, tmp_path, caplog, lines):
    with pgbouncer(url, tmp_path, "session", *lines) as pooled, closing(Store(pooled)) as store:
        store.upgrade()
        in_threads(*[lambda: timeouts(store) == ["10s", "5s", "10s"] or pytest.fail("they do not hold")] * 4)
        assert store.commit(RecordSet(), RECORDS, Edit(1.0, "ann", "", "set")).number == 1
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1
    assert "statement_timeout 0, lock_timeout 0" in warned[0]
    assert "are set by a statement of each session" in warned[0]


@pytest.mark.long
def test_a_start_tells_of_the_time_outs_once(url, tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text("agents: []\n")
    with (
        pgbouncer(url, tmp_path, "session") as pooled,
        MetaServer(tmp_path, file, "--database", pooled) as server,
    ):
        assert server.beat("h1")["desiredAgents"] == []
        assert server.said().count("does not take the time-outs") == 1


@pytest.mark.long
def test_where_statements_are_pooled_meta_does_not_start_and_says_why(url, tmp_path):
    with pgbouncer(url, tmp_path, "statement", IGNORING) as pooled:
        done = meta("serve", "--listen", "127.0.0.1:0", "--database", pooled, directory=tmp_path)
    assert done.returncode == 2
    assert (
        "is behind a pooler that pools statements, so that there is no transaction: let it pool sessions" in done.stderr
    )
    assert "pool_mode = session" in done.stderr


@pytest.mark.long
def test_a_check_before_a_restart_refuses_pooled_transactions_as_the_start_does(url, tmp_path):
    with closing(Store(url)) as store:
        store.upgrade()
    with pgbouncer(url, tmp_path, "transaction") as pooled:
        done = meta("serve", "--check", "--listen", "127.0.0.1:0", "--database", pooled, directory=tmp_path)
    assert (done.returncode, "pool_mode = session" in done.stderr) == (2, True)


def test_a_pooler_with_too_few_connections_is_told_how_many_meta_needs(url, tmp_path):
    words = r"meta needs 4 at least and uses up to 17 \(PgBouncer: default_pool_size"
    with pgbouncer(url, tmp_path, "session", "default_pool_size = 1") as pooled:
        for check in (Store.check, Store.upgrade):
            with closing(Store(pooled, patience=1.0)) as store, pytest.raises(TryLater, match=words):
                check(store)


@pytest.mark.long
def test_with_four_connections_of_a_pooler_meta_serves_and_may_be_checked_meanwhile(url, tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text("agents: []\n")
    with (
        pgbouncer(url, tmp_path, "session", "default_pool_size = 4") as pooled,
        MetaServer(tmp_path, file, "--database", pooled) as server,
    ):
        assert server.beat("h1")["desiredAgents"] == []
        done = meta("serve", "--check", "--listen", "127.0.0.1:0", "--database", pooled, directory=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("lines", [(), (IGNORING, "server_round_robin = 1", "min_pool_size = 3")])
def test_where_transactions_are_pooled_meta_does_not_start_and_says_why(url, tmp_path, lines):
    with pgbouncer(url, tmp_path, "transaction", *lines) as pooled:
        with closing(Store(pooled)) as store, pytest.raises(Misconfigured, match="pools transactions"):
            store.upgrade()
        done = meta("serve", "--listen", "127.0.0.1:0", "--database", pooled, directory=tmp_path)
    assert done.returncode == 2
    assert "pool_mode = session" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pooler_that_comes_to_pool_transactions_later_is_noticed_by_a_connection_that_changes_its_server(
    url, tmp_path
):
    with pgbouncer(url, tmp_path, "transaction", IGNORING) as pooled, closing(Store(pooled)) as store:
        assert timeouts(store)
        name = pooled.rpartition("/")[2].partition("?")[0]
        execute(
            url,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND pid <> pg_backend_pid()",
        )
        with pytest.raises(Misconfigured, match="pools transactions"):
            timeouts(store)


def test_a_pooler_that_comes_back_with_another_mode_is_refused_until_it_pools_sessions_again(url, tmp_path):
    port = free_port()
    with closing(Store(url)) as store:
        store.upgrade()

    def behind(mode):
        return pgbouncer(url, tmp_path, mode, "default_pool_size = 4", port=port)

    with behind("session") as pooled:
        meta = Meta(pooled)
        meta.keeper.step(NOW)
        assert meta.refusing() == ""
    with closing(meta):
        with behind("transaction"):
            for second in range(1, 4):
                meta.keeper.step(NOW + second)
                assert "pools transactions" in meta.keeper.condition(NOW + second).trouble
                assert "pool_mode = session" in meta.refusing()
        with behind("session"):
            meta.keeper.step(NOW + 10)
            assert (meta.keeper.condition(NOW + 10).trouble, meta.refusing()) == ("", "")


def test_a_server_that_comes_back_is_asked_once_whether_sessions_are_shared_and_no_connection_is_kept_for_it(url):
    with closing(Store(url)) as store:
        store.upgrade()
    theirs = f"FROM pg_stat_activity WHERE datname = '{url.rpartition('/')[2]}' AND application_name = 'meta'"
    with closing(Meta(url)) as meta:
        meta.keeper.step(NOW)
        (before,) = execute(url, f"SELECT pid {theirs}")
        execute(url, f"SELECT pg_terminate_backend(pid, 5000) {theirs}")
        seen = []
        for second in range(1, 4):
            meta.keeper.step(NOW + second)
            assert meta.keeper.condition(NOW + second).trouble == ""
            seen.append(execute(url, f"SELECT pid {theirs}"))
    assert [len(pids) for pids in seen] == [0, 1, 1]
    assert seen[1] == seen[2] != [before]
