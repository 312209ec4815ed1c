"""Tokens in the database: none is used more often than it may, and what is revoked stays so."""

import secrets
from contextlib import closing
from functools import partial

import pytest
from msgspec.structs import replace

from helpers.databases import execute
from helpers.threads import in_threads
from meta.access.tokens import Token
from meta.errors import TryLater, Unauthorised
from meta.store import LastAdmin, Store, Taken

ANN = Token(0, "operator", "ann", "admin", b"\0\xff" * 16, 1.5, 99.0)
ENROL = Token(0, "enrolment", "rack 7", hash=b"e" * 32, created=2.0, uses=2, pattern="lg-*")


def hosts(store: Store, since: int = 0) -> dict[str, bytes]:
    return {hostname: hashed for hostname, hashed, _ in store.host_tokens(since)}


def test_tokens_come_back_as_they_were_added(store, url):
    first, second = store.add_token(ANN).token, store.add_token(ENROL).token
    assert first.id != second.id
    with closing(Store(url)) as other:
        assert other.tokens() == [first, second] == [replace(ANN, id=first.id), replace(ENROL, id=second.id)]
        assert other.head().tokens == 2


def test_a_token_is_added_once(store):
    store.add_token(ANN)
    with pytest.raises(TryLater):
        store.add_token(replace(ANN, name="bob"))
    assert len(store.tokens()) == 1


def test_a_revoked_token_stays_revoked(store):
    token = store.add_token(ANN).token
    store.add_token(replace(ANN, name="bob", hash=b"b"))
    assert store.revoke_token(token.id, 5.0) == (replace(token, revoked=5.0), 3)
    assert store.revoke_token(token.id, 6.0) is None
    assert store.revoke_token(99, 6.0) is None
    assert store.tokens()[0] == replace(token, revoked=5.0)
    assert store.tokens_at()[1] == store.head().tokens == 3


def test_of_two_admins_who_revoke_each_other_at_once_one_stays(store, url):
    """Each at a meta of their own, whose memory still says that both are admins."""
    for _ in range(12):
        ann, bob = (store.add_token(replace(ANN, hash=secrets.token_bytes(32))).token for _ in range(2))

        def revoke(wanted, by):
            with closing(Store(url)) as mine:
                return mine.revoke_token(wanted.id, 5.0, by.id)

        results = in_threads(partial(revoke, ann, bob), partial(revoke, bob, ann))
        assert sorted(type(result).__name__ for result in results) == ["TokenWrite", "Unauthorised"]
        (left,) = [one for one in store.tokens() if not one.revoked]
        with pytest.raises(LastAdmin):
            store.revoke_token(left.id, 6.0, left.id)
        store.add_token(replace(ANN, hash=secrets.token_bytes(32)))
        assert store.revoke_token(left.id, 6.0, left.id)
        execute(url, "DELETE FROM token")


@pytest.mark.parametrize("unfit", [replace(ANN, role="editor"), replace(ANN, expires=4.0), replace(ANN, revoked=1.0)])
def test_the_last_admin_is_the_last_whose_token_still_opens_something(store, unfit):
    last = store.add_token(ANN).token
    store.add_token(replace(unfit, hash=b"b"))
    with pytest.raises(LastAdmin):
        store.revoke_token(last.id, 5.0)
    assert store.head().tokens == 2
    store.add_token(replace(ANN, hash=b"c"))
    assert store.revoke_token(last.id, 5.0)


def test_who_was_revoked_elsewhere_a_moment_ago_makes_and_revokes_no_more_tokens(store):
    """Else a token made in that moment would outlive its maker's."""
    ann, bob = (store.add_token(replace(ANN, hash=hashed)).token for hashed in (b"a", b"b"))
    enrolment = store.add_token(ENROL).token
    store.use_enrolment(enrolment.id, "lg-1", b"1", 3.0)
    store.revoke_token(bob.id, 4.0, ann.id)
    before = (store.tokens(), hosts(store), store.head())
    for act in (
        lambda: store.add_token(replace(ANN, hash=b"c", created=5.0), bob.id),
        lambda: store.revoke_token(enrolment.id, 5.0, bob.id),
        lambda: store.revoke_host_token("lg-1", 5.0, bob.id),
    ):
        with pytest.raises(Unauthorised):
            act()
    assert (store.tokens(), hosts(store), store.head()) == before


def enrolled(store, token, hostname, hashed, now):
    """Whether it was."""
    try:
        store.use_enrolment(token.id, hostname, hashed, now)
    except (Unauthorised, Taken):
        return False
    return True


def test_an_enrolment_gives_a_host_its_token(store):
    token = store.add_token(ENROL).token
    assert store.use_enrolment(token.id, "lg-1", b"1" * 32, 3.0) == (replace(token, uses=1), 2)
    assert store.use_enrolment(token.id, "lg-2", b"2" * 32, 3.0) == (replace(token, uses=0), 3)
    with pytest.raises(Unauthorised, match="used up"):
        store.use_enrolment(token.id, "lg-3", b"3" * 32, 3.0)
    assert hosts(store) == {"lg-1": b"1" * 32, "lg-2": b"2" * 32}
    assert [token.uses for token in store.tokens()] == [0]


@pytest.mark.parametrize(
    "unfit",
    [
        replace(ENROL, kind="operator"),
        replace(ENROL, uses=0),
        replace(ENROL, expires=10.0),
        replace(ENROL, revoked=1.0),
    ],
)
def test_what_is_no_good_token_enrols_nobody(store, unfit):
    token = store.add_token(unfit).token
    before = store.head()
    for number in (token.id, 99):
        with pytest.raises(Unauthorised):
            store.use_enrolment(number, "lg-1", b"1", 10.0)
    assert (store.tokens(), hosts(store), store.head()) == ([token], {}, before)


def test_a_token_without_a_count_enrols_any_number_until_it_expires(store):
    token = store.add_token(replace(ENROL, uses=-1, expires=10.0)).token
    done = [enrolled(store, token, f"lg-{at}", b"1", float(at)) for at in range(7, 13)]
    assert done == [True] * 3 + [False] * 3
    assert store.tokens() == [token]


def test_nobody_takes_the_place_of_a_host_that_has_a_token(store):
    token = store.add_token(ENROL).token
    assert store.use_enrolment(token.id, "lg-1", b"1", 3.0)
    with pytest.raises(Taken):
        store.use_enrolment(token.id, "lg-1", b"2", 4.0)
    assert hosts(store) == {"lg-1": b"1"}
    assert store.tokens()[0].uses == 1  # the refused one costs nothing


def test_a_host_enrols_again_when_its_token_was_revoked(store):
    token = store.add_token(ENROL).token
    store.use_enrolment(token.id, "lg-1", b"1", 3.0)
    serial = store.head().tokens
    assert store.revoke_host_token("lg-1", 4.0) == serial + 1
    assert store.revoke_host_token("lg-1", 5.0) == 0
    assert store.revoke_host_token("lg-9", 5.0) == 0
    assert hosts(store, serial) == {"lg-1": b""}
    assert store.use_enrolment(token.id, "lg-1", b"2", 6.0)
    assert hosts(store) == {"lg-1": b"2"}


def test_a_token_for_it_enrols_hosts_again(store):
    token = store.add_token(replace(ENROL, reenrol=True)).token
    assert [enrolled(store, token, "lg-1", bytes([i]), 3.0) for i in range(3)] == [True, True, False]
    assert hosts(store) == {"lg-1": b"\x01"}


def test_a_follower_is_told_what_is_later(store):
    token = store.add_token(replace(ENROL, uses=-1)).token
    for name in ("a", "b", "c"):
        store.use_enrolment(token.id, name, name.encode(), 3.0)
    told = list(store.host_tokens())
    assert [(hostname, hashed) for hostname, hashed, _ in told] == [("a", b"a"), ("b", b"b"), ("c", b"c")]
    assert told[-1][2] == store.head().tokens
    assert list(store.host_tokens(told[0][2])) == told[1:]
    assert list(store.host_tokens(store.head().tokens)) == []


def test_enrolments_at_once_do_not_exceed_the_count(store, url):
    token = store.add_token(replace(ENROL, uses=5)).token

    def enrol(index):
        with closing(Store(url)) as mine:
            return [enrolled(mine, token, f"h{index}-{i}", bytes([index, i]), 3.0) for i in range(4)]

    results = in_threads(*(lambda i=i: enrol(i) for i in range(4)))
    assert sum(map(sum, results)) == 5 == len(hosts(store))
    assert store.tokens()[0].uses == 0


def test_of_two_that_enrol_as_one_host_at_once_one_wins(store, url):
    token = store.add_token(replace(ENROL, uses=-1)).token

    def enrol(hashed):
        with closing(Store(url)) as mine:
            return hashed if enrolled(mine, token, "h", hashed, 3.0) else None

    results = in_threads(*(lambda i=i: enrol(bytes([i])) for i in range(4)))
    assert sorted(filter(None, results)) == list(hosts(store).values())
