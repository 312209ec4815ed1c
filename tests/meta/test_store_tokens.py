"""Tokens in the database: none is used more often than it may, and what is revoked stays so."""

from contextlib import closing

import pytest
from msgspec.structs import replace

from helpers.threads import in_threads
from meta.errors import TryLater
from meta.store import Store, Token

ANN = Token(0, "operator", "ann", "admin", b"\0\xff" * 16, 1.5, 99.0)
ENROL = Token(0, "enrolment", "rack 7", hash=b"e" * 32, created=2.0, uses=2, pattern="lg-*")


def hosts(store: Store, since: int = 0) -> dict[str, bytes]:
    return {hostname: hashed for hostname, hashed, _ in store.host_tokens(since)}


def test_tokens_come_back_as_they_were_added(store, url):
    first, second = store.add_token(ANN), store.add_token(ENROL)
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
    token = store.add_token(ANN)
    assert store.revoke_token(token.id, 5.0) is True
    assert store.revoke_token(token.id, 6.0) is False
    assert store.revoke_token(99, 6.0) is False
    assert store.tokens() == [replace(token, revoked=5.0)]


def test_an_enrolment_gives_a_host_its_token(store):
    token = store.add_token(ENROL)
    assert store.use_enrolment(token.id, "lg-1", b"1" * 32, 3.0) is True
    assert store.use_enrolment(token.id, "lg-2", b"2" * 32, 3.0) is True
    assert store.use_enrolment(token.id, "lg-3", b"3" * 32, 3.0) is False  # used up
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
    token = store.add_token(unfit)
    before = store.head()
    assert store.use_enrolment(token.id, "lg-1", b"1", 10.0) is False
    assert store.use_enrolment(99, "lg-1", b"1", 10.0) is False
    assert (store.tokens(), hosts(store), store.head()) == ([token], {}, before)


def test_a_token_without_a_count_enrols_any_number_until_it_expires(store):
    token = store.add_token(replace(ENROL, uses=-1, expires=10.0))
    assert [store.use_enrolment(token.id, f"lg-{at}", b"1", float(at)) for at in range(7, 13)] == [True] * 3 + [
        False
    ] * 3
    assert store.tokens() == [token]


def test_nobody_takes_the_place_of_a_host_that_has_a_token(store):
    token = store.add_token(ENROL)
    assert store.use_enrolment(token.id, "lg-1", b"1", 3.0)
    assert store.use_enrolment(token.id, "lg-1", b"2", 4.0) is False
    assert hosts(store) == {"lg-1": b"1"}
    assert store.tokens()[0].uses == 1  # the refused one costs nothing


def test_a_host_enrols_again_when_its_token_was_revoked(store):
    token = store.add_token(ENROL)
    store.use_enrolment(token.id, "lg-1", b"1", 3.0)
    serial = store.head().tokens
    assert store.revoke_host_token("lg-1", 4.0) is True
    assert store.revoke_host_token("lg-1", 5.0) is False
    assert store.revoke_host_token("lg-9", 5.0) is False
    assert hosts(store, serial) == {"lg-1": b""}
    assert store.use_enrolment(token.id, "lg-1", b"2", 6.0) is True
    assert hosts(store) == {"lg-1": b"2"}


def test_a_token_for_it_enrols_hosts_again(store):
    token = store.add_token(replace(ENROL, reenrol=True))
    assert [store.use_enrolment(token.id, "lg-1", bytes([i]), 3.0) for i in range(3)] == [True, True, False]
    assert hosts(store) == {"lg-1": b"\x01"}


def test_a_follower_is_told_what_is_later(store):
    token = store.add_token(replace(ENROL, uses=-1))
    for name in ("a", "b", "c"):
        store.use_enrolment(token.id, name, name.encode(), 3.0)
    told = list(store.host_tokens())
    assert [(hostname, hashed) for hostname, hashed, _ in told] == [("a", b"a"), ("b", b"b"), ("c", b"c")]
    assert told[-1][2] == store.head().tokens
    assert list(store.host_tokens(told[0][2])) == told[1:]
    assert list(store.host_tokens(store.head().tokens)) == []


def test_enrolments_at_once_do_not_exceed_the_count(store, url):
    token = store.add_token(replace(ENROL, uses=5))

    def enrol(index):
        with closing(Store(url)) as mine:
            return [mine.use_enrolment(token.id, f"h{index}-{i}", bytes([index, i]), 3.0) for i in range(4)]

    results = in_threads(*(lambda i=i: enrol(i) for i in range(4)))
    assert sum(map(sum, results)) == 5 == len(hosts(store))
    assert store.tokens()[0].uses == 0


def test_of_two_that_enrol_as_one_host_at_once_one_wins(store, url):
    token = store.add_token(replace(ENROL, uses=-1))

    def enrol(hashed):
        with closing(Store(url)) as mine:
            return hashed if mine.use_enrolment(token.id, "h", hashed, 3.0) else None

    results = in_threads(*(lambda i=i: enrol(bytes([i])) for i in range(4)))
    assert sorted(filter(None, results)) == list(hosts(store).values())
