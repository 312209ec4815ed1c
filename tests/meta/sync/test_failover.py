"""Databases that lost what they had confirmed, and metas that rest on it: noticed whatever was lost, at whatever numbers."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from helpers.databases import KINDS, connected, database, execute
from helpers.keeping import NOW, Meta, Sometimes, Standby, held, known, restarted, settle
from lab.fleet import until
from meta.access.tokens import Token
from meta.errors import TryLater
from meta.records.history import Edit
from meta.records.model import Record, RecordSet, Release
from meta.service import Service
from meta.settings import Settings
from meta.store import Lost, Store
from updater.wire.heartbeat import RealAgent

A1, A2 = RealAgent("a", "1", "started", 7), RealAgent("a", "2", "started", 8)


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    with database(request.param, tmp_path) as url:
        with closing(Store(url)) as store:
            store.upgrade()
        yield url


@pytest.fixture
def metas(url):
    """Makes metas on the same database."""
    with ExitStack() as stack:
        yield lambda **more: stack.enter_context(closing(Meta(url, **more)))


@pytest.fixture
def standby(url, tmp_path):
    with closing(Standby(url, tmp_path)) as standby:
        yield standby


# --- what one meta did or read since its last look ---


def edit(meta):
    meta.edit("lost")


def edit_twice(meta):
    meta.edit("lost")
    meta.edit("lost too")


def make_token(meta):
    meta.add_token("lost", role="admin")


def revoke(meta):
    meta.revoke_token(next(one for one in meta.tokens.all() if one.name == "eve"))


def enrol(meta):
    meta.enrol(next(one for one in meta.tokens.all() if one.kind == "enrolment"), "lost")


def take_back(meta):
    meta.take_back("h")


def nothing_changes(meta):
    """Another meta edits, and this one makes sure that what it is asked for is so already: it has read the other's edit."""
    with closing(Meta(meta.url)) as other:
        other.edit("lost")
    meta.edit("lost")


LOSSES = [edit, edit_twice, make_token, revoke, enrol, take_back, nothing_changes]


def begin(meta):
    meta.add_token("ann", role="admin")
    meta.add_token("eve", role="admin")
    meta.enrol(meta.add_token("rack", kind="enrolment"), "h")
    meta.beat("h", A1)
    meta.edit("1")
    settle(meta)


@pytest.mark.parametrize("reached", [False, True], ids=["", "the same numbers"])
@pytest.mark.parametrize("lose", LOSSES)
def test_what_a_meta_did_since_its_last_look_and_the_standby_has_not_got_is_noticed(
    metas, url, standby, caplog, lose, reached
):
    """reached: another meta has done as much by then, so that all numbers are what they were."""
    one = metas()
    begin(one)
    fail_over = standby.copy(one)
    lose(one)
    lost = one.store.head()
    fail_over()
    if reached:
        with closing(Meta(url)) as other:
            bring_to(other, lost)
    with pytest.raises(TryLater):
        one.edit("refused, since it is made on what is not there")
    one.keeper.step(NOW + 1)
    assert "read again" in caplog.text
    settle(one, now=NOW + 2)
    assert known(one) == held(url)
    one.edit("taken")


def bring_to(other, lost):
    """Edits and tokens until the numbers are those again."""
    for number in range(100):
        head = other.store.head()
        if head.revision < lost.revision:
            other.edit(f"other {number}")
        elif head.tokens < lost.tokens:
            other.add_token(f"other {number}", role="viewer")
        elif head.position < lost.position:
            other.beat(f"other{number}", A1)
            other.keeper.step(NOW + number)
        else:
            return
    raise AssertionError(f"{head} and {lost}")


def save_hosts(meta):
    meta.beat("new", A1, now=NOW + 10)
    meta.beat("h", A2, now=NOW + 10)
    meta.keeper.step(NOW + 11)


def retire(meta):
    assert meta.set_aside("h", NOW + 10, is_retired=True)


@pytest.mark.parametrize("reached", [False, True], ids=["", "the same numbers"])
@pytest.mark.parametrize("lose", [save_hosts, retire])
def test_what_a_meta_wrote_of_hosts_since_its_last_look_is_written_again(metas, url, standby, caplog, lose, reached):
    one = metas()
    begin(one)
    fail_over = standby.copy(one)
    lose(one)
    lost, hosts = one.store.head(), known(one)[3]
    fail_over()
    if reached:
        with closing(Meta(url)) as other:
            bring_to(other, lost)
    one.keeper.step(NOW + 12)
    assert "read again" in caplog.text
    settle(one, now=NOW + 20)
    found = held(url, NOW + 30)
    assert {name: found[3][name] for name in hosts} == hosts
    assert known(one) == found
    assert len({row.id for row in one.hosts().values()}) == len(found[3])


def test_a_failover_between_following_and_writing_writes_to_nobody_elses_id(metas, url, standby):
    """The meta has looked, and the standby takes over before it writes that it heard of its hosts."""
    one = metas()
    begin(one)
    fail_over = standby.copy(one)
    one.beat("lost", A1, now=NOW + 1)
    settle(one, now=NOW + 2)
    number = one.hosts()["lost"].id
    save = one.store.save

    def late(*arguments):
        one.store.save = save
        fail_over()
        with closing(Meta(url)) as other:
            other.beat("others", A1, now=NOW + 3)
            other.keeper.step(NOW + 3)
            assert other.hosts()["others"].id == number
        return save(*arguments)

    one.store.save = late
    one.beat("lost", A1, now=NOW + 100)
    one.keeper.step(NOW + 100)
    settle(one, now=NOW + 101)
    with closing(Meta(url, NOW + 110)) as other:
        assert {name: at >= NOW + 99 for name, at in other.last_seen().items()} == {
            "h": False,
            "lost": True,
            "others": False,
        }


def test_tokens_that_were_read_later_than_the_head_are_noticed_when_they_are_lost(metas, url, standby):
    """A meta has read a token that came after it had looked at the head."""
    one, other = metas(), metas()
    begin(one)
    settle(one, other)
    other.add_token("new", role="viewer")
    fail_over = standby.copy(one, other)

    class Late(Sometimes):
        def tokens_at(self):
            other.revoke_token(next(token for token in other.tokens.all() if token.name == "eve"))
            return self._store.tokens_at()

    one.keeper._follower._store = Late(one.store)
    one.keeper.step(NOW + 1)
    one.keeper._follower._store = one.database
    fail_over()
    settle(one, now=NOW + 2)
    assert known(one) == held(url)


def test_a_commit_whose_answer_comes_after_the_database_was_read_again_leaves_nothing_behind(metas, url, standby):
    one = metas()
    begin(one)
    fail_over = standby.copy(one)
    hashes, writes = one.tokens.hosts, one.store.use_enrolment

    def late(*arguments):
        written = writes(*arguments)
        fail_over()
        one.keeper.step(NOW + 1)
        return written

    one.store.use_enrolment = late
    enrol(one)
    settle(one, now=NOW + 2)
    assert "lost" not in hashes
    assert known(one) == held(url)


# --- several of them ---


def test_after_a_failover_that_lost_edits_all_metas_come_to_what_the_database_holds(metas, url, standby, caplog):
    """Though their numbers are given again before anybody looks."""
    one, other, third = metas(), metas(), metas()
    one.edit("1")
    settle(one, other, third)
    fail_over = standby.copy(one, other, third)
    one.edit("lost 2")
    one.edit("lost 3")
    settle(one, other)
    lost = one.in_force()
    fail_over()
    third.keeper.step(NOW)
    third.edit("2")
    third.edit("3")
    with pytest.raises(Lost):
        one.store.commit(lost, RecordSet(records=(Record("a", Release("4"), "http://r"),)), Edit(NOW, "ann", "", "set"))
    one.keeper.step(NOW + 1)
    assert "the database was read again: revision 3 of the records is in force, before it was 3" in caplog.text
    settle(one, other, third, now=NOW + 1)
    assert third.in_force().records[0].release.version == "3"
    assert one.in_force() == other.in_force() == third.in_force()
    assert [meta.in_force().identity for meta in (one, other, third)] != [lost.identity] * 3
    before = [change.before["version"] for made in one.store.revisions_since(1) for change in made.changes]
    assert before == ["1", "2"]


def test_after_a_failover_that_lost_hosts_they_are_written_again_and_no_id_is_of_two(metas, url, standby):
    one, other = metas(), metas()
    one.beat("before", A1)
    settle(one, other)
    fail_over = standby.copy(one, other)
    for number in range(5):
        one.beat(f"lost{number}", A1, now=NOW + 1)
    one.beat("before", A2, now=NOW + 1)
    one.set_aside("before", NOW + 1.5, is_retired=True)
    settle(one, other, now=NOW + 2)
    other.beat("lost0", A1, now=NOW + 5)
    before = one.hosts()
    fail_over()
    for number in range(5):
        other.beat(f"new{number}", A1, now=NOW + 6)
    other.keeper.step(NOW + 7)
    settle(one, other, now=NOW + 8)
    found = restarted(url, NOW + 9)
    assert one.hosts() == other.hosts() == found
    assert len({row.id for row in found.values()}) == 11
    assert {name: row._replace(id=0) for name, row in found.items() if name in before} == {
        name: row._replace(id=0) for name, row in before.items()
    }
    assert one.table.get("lost0").last_seen >= NOW + 4


def test_after_a_failover_that_lost_tokens_those_of_the_database_count(metas, url, standby):
    one, other = metas(), metas()
    made = one.add_token("e", kind="enrolment")
    settle(one, other)
    fail_over = standby.copy(one, other)
    text = one.enrol(made, "h")
    one.revoke_token(made)
    settle(one, other)
    assert "h" in other.tokens.hosts
    fail_over()
    with closing(Meta(url)) as third:
        again = third.enrol(made, "h")
        third.enrol(made, "i")
    settle(one, other)
    for meta in (one, other):
        assert meta.tokens.all() == meta.store.tokens() == [made]
        assert meta.tokens.hosts.may_report("h", f"Bearer {again}", False) == ""
        assert meta.tokens.hosts.may_report("h", f"Bearer {text}", False) != ""


def test_a_failover_that_lost_nothing_is_not_noticed(metas, url, standby, caplog):
    one, other = metas(), metas()
    one.beat("h", A1)
    one.edit("1")
    settle(one, other)
    standby.copy(one, other)()
    other.edit("2")
    other.beat("i", A1)
    settle(one, other)
    assert one.hosts() == other.hosts() == restarted(url)
    assert "read again" not in caplog.text


# --- while it is read again ---


@pytest.mark.parametrize("slow", ["load_records", "tokens_at", "host_tokens"])
def test_until_what_people_order_is_read_again_nothing_is_ordered(metas, url, standby, slow):
    one = metas()
    begin(one)
    fail_over = standby.copy(one)
    edit(one)
    fail_over()
    one.keeper._follower._store = failing(one.store, slow)
    for number in range(2):
        one.keeper.step(NOW + number)
        assert one.refusing().startswith("the database does not hold what was followed here")
        assert f"cannot be followed: {slow} is slow" in one.keeper.condition(NOW).trouble
        with pytest.raises(TryLater):
            one.edit("2")
    one.keeper._follower._store = one.database
    settle(one, now=NOW + 10)
    one.edit("2")
    settle(one, now=NOW + 11)
    assert known(one) == held(url)


@pytest.mark.long
def test_until_hosts_are_read_again_none_is_written_but_edits_are_made(metas, url, standby):
    one = metas()
    begin(one)
    fail_over = standby.copy(one)
    one.beat("lost", A1, now=NOW + 1)
    one.keeper.step(NOW + 1)
    fail_over()
    one.keeper._follower._store = failing(one.store, "load_hosts")
    one.beat("h", A2, now=NOW + 2)
    one.keeper.step(NOW + 2)
    assert one.refusing() == ""
    assert "hosts cannot be followed: load_hosts is slow" in one.keeper.condition(NOW).trouble
    one.edit("2")
    with closing(Meta(url)) as other:
        assert (list(other.hosts()), other.in_force().records[0].release.version) == (["h"], "2")
        assert '"a","1"' in other.hosts()["h"].agents
    one.keeper._follower._store = one.database
    settle(one, now=NOW + 10)
    assert known(one) == held(url)
    assert sorted(one.hosts()) == ["h", "lost"]


ORDERS = {
    "a token": lambda meta, epoch: meta.store.add_token(Token(0, "operator", "new", "viewer", b"new", NOW), 0, epoch),
    "a revocation": lambda meta, epoch: meta.store.revoke_token(meta.tokens.all()[0].id, NOW, 0, epoch),
    "an enrolment": lambda meta, epoch: meta.store.use_enrolment(meta.tokens.all()[2].id, "new", b"new", NOW, epoch),
    "a host's revocation": lambda meta, epoch: meta.store.revoke_host_token("h", NOW, 0, epoch),
}


@pytest.mark.parametrize("order", ORDERS)
def test_who_orders_something_of_tokens_while_they_are_read_again_is_refused_and_not_told_it_is_in_force(
    metas, url, standby, order
):
    """It was asked before that was noticed, and memory would not take the outcome: it is another epoch's by then."""
    one = metas()
    begin(one)
    fail_over = standby.copy(one)
    edit(one)
    fail_over()
    asked = one.tokens.epoch
    during = []

    class Late(Sometimes):
        def start_again(self):
            self._store.start_again()
            during.append(one.store.head().tokens)  # and it rests on what is there now
            with pytest.raises(Lost):
                ORDERS[order](one, asked)
            with pytest.raises(Lost):
                one.store.commit(one.in_force(), RecordSet(), Edit(NOW, "ann", "", "set"))

    one.keeper._follower._store = Late(one.store)
    one.keeper.step(NOW + 1)
    assert during == [one.store.head().tokens]
    with pytest.raises(Lost):  # also when all is read again meanwhile
        ORDERS[order](one, asked)
    assert ORDERS[order](one, one.tokens.epoch)


def failing(store, slow):
    class Failing(Sometimes):
        def __getattr__(self, name):
            if name == slow:
                raise TryLater(f"{name} is slow")
            return super().__getattr__(name)

    return Failing(store)


# --- an absence that is longer than the log ---


def forget_the_log(url):
    execute(url, "DELETE FROM commit_log WHERE position < (SELECT position FROM head)")


def test_a_meta_that_was_away_for_longer_than_the_log_reads_everything_again(metas, url):
    one, other = metas(), metas()
    one.beat("h", A1)
    settle(one, other)
    one.database.is_away = True
    one.beat("i", A1, now=NOW + 1)
    other.beat("h", A2, now=NOW + 2)
    other.edit("1")
    forget_the_log(url)
    other.keeper.step(NOW + 3)
    one.database.is_away = False
    settle(one, other, now=NOW + 4)
    assert one.hosts() == other.hosts() == restarted(url)
    assert one.in_force() == other.in_force()


def test_hosts_that_were_forgotten_in_so_long_an_absence_do_not_come_back_from_memory(metas, url):
    """Though they were retired only meanwhile; what was heard of meanwhile stays."""
    away, other = metas(), metas(late_after=10, forget_after=100)
    for name in ("gone", "retired", "heard", "stays"):
        away.beat(name, A1, now=NOW)
    settle(away, other)
    away.set_aside("retired", NOW + 2, is_retired=True)
    settle(away, other, now=NOW + 3)
    away.database.is_away = True
    for name in ("gone", "heard"):
        assert other.set_aside(name, NOW + 10, is_retired=True)
    other.beat("stays", A1, now=NOW + 200)
    other.keeper.step(NOW + 200)
    assert list(other.hosts()) == ["stays"]
    away.beat("heard", A1, now=NOW + 231)
    forget_the_log(url)
    other.keeper.step(NOW + 231)
    away.database.is_away = False
    settle(away, other, now=NOW + 232)
    assert sorted(away.hosts()) == ["heard", "stays"]
    assert away.hosts() == other.hosts() == restarted(url, NOW + 233)


def test_a_failover_while_all_is_read_after_an_absence_brings_no_forgotten_host_back_either(metas, url, standby):
    away = metas()
    for name in ("gone", "stays"):
        away.beat(name, A1, now=NOW)
    settle(away)
    away.database.is_away = True
    with closing(Meta(url, NOW + 5, late_after=10, forget_after=100)) as other:
        other.set_aside("gone", NOW + 10, is_retired=True)
        other.keeper.step(NOW + 200)
        assert list(other.hosts()) == ["stays"]
    forget_the_log(url)
    away.database.is_away = False
    away.keeper._follower._store = failing(away.store, "load_hosts")
    away.keeper.step(NOW + 201)
    fail_over = standby.copy(away)
    away.edit("lost")
    fail_over()
    away.keeper.step(NOW + 202)
    away.keeper._follower._store = away.database
    settle(away, now=NOW + 210)
    assert list(away.hosts()) == ["stays"] == list(restarted(url, NOW + 211))


# --- tables that are locked ---

LOCKABLE = {
    "revision": "",
    "change": "",
    "agent_record": "records",
    "ban": "records",
    "label": "records",
    "tarball": "records",
    "token": "tokens",
    "host_token": "tokens of hosts",
    "host": "hosts",
    "beat": "hosts",
}


@pytest.mark.long
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has no locks of one table
@pytest.mark.parametrize("locked", LOCKABLE)
def test_a_table_that_is_locked_keeps_none_of_the_others_from_being_followed(metas, url, locked):
    one, other = metas(), metas()
    begin(other)
    settle(other, one)
    with connected(url) as locking:
        other.edit("2")
        revoke(other)
        enrol(other)
        other.beat("new", A1, now=NOW + 1)
        other.keeper.step(NOW + 1)
        locking.exec_driver_sql(f"LOCK TABLE {locked} IN ACCESS EXCLUSIVE MODE")
        one.keeper.step(NOW + 2)
        followed = {
            "records": one.in_force() == other.in_force(),
            "tokens": one.tokens.all() == other.tokens.all(),
            "tokens of hosts": "lost" in one.tokens.hosts,
            "hosts": "new" in one.hosts(),
        }
        part = LOCKABLE[locked]
        assert [name for name, is_followed in followed.items() if not is_followed] == [part] * bool(part)
        assert one.refusing() == ""
        trouble = one.keeper.condition(NOW + 2).trouble
        assert f"{part} cannot be followed: " in trouble if part else trouble == ""
        if part not in ("", "records"):
            one.edit("3")
    settle(one, other, now=NOW + 10)
    assert known(one) == known(other) == held(url)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "SHARE"])
def test_who_orders_something_of_a_host_whose_table_is_locked_is_told_soon_and_keeps_no_edit_waiting(metas, url, mode):
    one = metas()
    begin(one)
    with connected(url) as locking:
        locking.exec_driver_sql(f"LOCK TABLE host IN {mode} MODE")
        start = time.monotonic()
        with pytest.raises(TryLater, match="lock timeout"):
            one.set_aside("h", NOW + 1, is_retired=True)
        assert time.monotonic() - start < 2
        one.edit("2")
    assert one.set_aside("h", NOW + 1, is_retired=True)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_meta_follows_while_as_many_as_it_has_connections_wait_for_the_head(url):
    """A meta is frozen while it holds the head, and a rack enrols at this one."""
    with closing(Store(url)) as store:
        service = Service(store, Settings())
        keeper, pool = service._keeper, store._database.engine.pool
        keeper.load(NOW)
        tokens = [Token(0, "operator", f"t{number}", "viewer", b"%d" % number, NOW) for number in range(15)]
        with ThreadPoolExecutor(len(tokens)) as rack, connected(url) as frozen:
            frozen.exec_driver_sql("SELECT * FROM head FOR UPDATE")
            waiting = [rack.submit(store.add_token, token) for token in tokens]
            until("all connections are taken", lambda: pool.checkedout() == len(tokens))
            begin = time.monotonic()
            keeper.step(NOW + 1)
            assert (keeper.condition(NOW + 1).trouble, keeper.refusing) == ("", "")
            assert time.monotonic() - begin < 2
            frozen.rollback()
            assert [found.result().token.name for found in waiting] == [token.name for token in tokens]
        assert service.close(5)


@pytest.mark.long
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_database_that_lost_something_is_read_again_as_far_as_it_is_not_locked(metas, url, standby):
    one = metas()
    begin(one)
    fail_over = standby.copy(one)
    edit(one)
    fail_over()
    with connected(url) as locking:
        locking.exec_driver_sql("LOCK TABLE host IN ACCESS EXCLUSIVE MODE")
        one.keeper.step(NOW + 1)
        assert (one.in_force().records[0].release.version, one.refusing()) == ("1", "")
        one.edit("2")
        assert "hosts cannot be followed" in one.keeper.condition(NOW + 1).trouble
    settle(one, now=NOW + 10)
    assert known(one) == held(url)
