"""Promises about tokens. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from lab.partitions.history import History, Probe, TokenOrder
from lab.partitions.judging import STALE, is_calm, is_good, overlaps

REFUSED = 401


def tokens(history: History) -> Iterator[str]:
    """A revoked token opens nothing: at once where it was revoked, soon elsewhere, and nowhere in the end; a good one opens.
    And there is always an admin."""
    orders = defaultdict(list)
    for order in history.orders:
        orders[order.token].append(order)
    for probe in history.probes:
        if is_good(probe.asked):
            yield from _opened(history, probe, orders[probe.token])
        if probe.asked.status == REFUSED:
            yield from _refused(history, probe, orders[probe.token])
    for token, its_orders in orders.items():
        yield from _token_in_the_end(history, token, [one for one in its_orders if one.what == "revoked"])
    yield from _duels(history)
    for meta, opened in enumerate(history.end.tokens):
        for token, is_open in opened.items():
            if is_open != history.end.kept_tokens.get(token, False):
                yield f"token {token} is {'good' if is_open else 'refused'} at meta {meta} in the end, unlike in the database"
    if history.end.admins < 1:
        yield "no admin is left"


def _duels(history: History) -> Iterator[str]:
    done = [one for one in history.orders if one.what == "revoked" and is_good(one.asked)]
    done = [one for one in done if not overlaps(history.losses, one.asked.begin, one.asked.end)]
    pairs = {(one.by, one.token) for one in done}
    yield from (
        f"admins {by} and {token} revoked each other" for by, token in pairs if by < token and (token, by) in pairs
    )


def _opened(history: History, probe: Probe, orders: Iterable[TokenOrder]) -> Iterator[str]:
    """It was accepted; by whom should it have been refused?"""
    for order in orders:
        if order.what == "revoked" and _must_be_known(history, order, probe):
            yield f"token {probe.token} opens meta {probe.asked.meta} after it was revoked at {order.asked.meta}"


def _refused(history: History, probe: Probe, orders: Sequence[TokenOrder]) -> Iterator[str]:
    """It was refused; who may have revoked it?"""
    if any(order.what == "revoked" and order.asked.begin <= probe.asked.end for order in orders):
        return
    for order in orders:
        if order.what == "made" and _must_be_known(history, order, probe):
            yield f"token {probe.token} is refused at meta {probe.asked.meta} after it was made at {order.asked.meta}"


def _must_be_known(history: History, order: TokenOrder, probe: Probe) -> bool:
    """Whether this order was in force where the token was tried: it was made at this meta, or elsewhere some time before. One
    that a failover may have lost need not be; one that was made before stays, whatever is lost after it."""
    if not is_good(order.asked) or overlaps(history.losses, order.asked.begin, order.asked.end):
        return False
    since = probe.asked.begin - STALE
    is_here = order.asked.meta == probe.asked.meta and order.asked.end < probe.asked.begin
    return is_here or (order.asked.end < since and is_calm(history, since, probe.asked.end))


def _token_in_the_end(history: History, token: str, revoking: Sequence[object]) -> Iterator[str]:
    orders = [one for one in history.orders if one.token == token]
    if token not in history.end.kept_tokens or any(
        overlaps(history.losses, one.asked.begin, one.asked.end) for one in orders
    ):
        return
    is_revoked = any(one.what == "revoked" and is_good(one.asked) for one in orders)
    if is_revoked and history.end.kept_tokens[token]:
        yield f"token {token} was revoked, and is good in the end"
    if not revoking and not history.end.kept_tokens[token]:
        yield f"token {token} was never revoked, and is not good in the end"
