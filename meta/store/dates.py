"""Converts times of hosts between this meta's clock and the database's, so that metas with different clocks agree.

`ahead` is by how many seconds our clock is ahead of the database's. It is a whole number, so that conversions are exact in both
directions. It is 0.0 if the clocks agree, and for an SQLite file. Since converted times do not show it, a meta signs what it
writes with it.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec

from meta.records.history import Edit
from meta.store.rows import HeartbeatBatch, HostOrder, HostRow, Since

_since = msgspec.json.Decoder(tuple[float | tuple[float, ...], msgspec.Raw])
_encode = msgspec.json.Encoder().encode


def signed(meta: str, ahead: float) -> str:
    """The writer of a heartbeat batch: the id of a meta, and after a blank its `ahead`, if there is any."""
    return f"{meta} {ahead:+.0f}" if ahead else meta


def read_signed(text: str) -> tuple[str, float | None]:
    """The inverse of `signed`; without `ahead`: None."""
    meta, _, ahead = text.partition(" ")
    try:
        return meta, float(ahead) if ahead else None
    except ValueError:
        return text, None


def clocks_of(batches: Sequence[tuple[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """What batches (writer, time), in order, say of their writers' clocks: `dates` and `ahead` of Since."""
    written = [(*read_signed(writer), at) for writer, at in batches]
    last = {meta: ahead for meta, ahead, _ in written}
    dates: dict[str, float] = {}
    for meta, ahead, at in written:
        if ahead is None and last[meta] is None:
            dates[meta] = max(at, dates.get(meta, at))
    return dates, {meta: ahead for meta, ahead in last.items() if ahead is not None}


def moved(row: HostRow, by: float) -> HostRow:
    """The row with its times moved by `by` seconds."""
    if not by:
        return row
    sign = (row.retired_at > 0) - (row.retired_at < 0)
    return row._replace(
        first_seen=row.first_seen + by,
        last_seen=row.last_seen + by,
        since=_moved_since(row.since, by),
        retired_at=row.retired_at + sign * by,
    )


def _moved_since(text: str, by: float) -> str:
    """The JSON of `since` with its times moved; unreadable text is unchanged, as the reader of the row reports it."""
    try:
        since, looked = _since.decode(text)
    except msgspec.DecodeError:
        return text
    later = tuple(at + by for at in since) if isinstance(since, tuple) else since + by
    return _encode((later, looked)).decode()


def moved_all(rows: Sequence[HostRow], by: float) -> Sequence[HostRow]:
    return [moved(row, by) for row in rows] if by else rows


def moved_each(rows: Iterator[HostRow], by: float) -> Iterator[HostRow]:
    """Move rows one by one."""
    with closing(rows):  # type: ignore[type-var]
        for row in rows:
            yield moved(row, by)


def moved_batches(batches: Sequence[HeartbeatBatch], by: float) -> list[HeartbeatBatch]:
    return [HeartbeatBatch(one.at + by, one.seen) for one in batches]


def moved_order(what: HostOrder, by: float) -> HostOrder:
    return what._replace(at=what.at + by, rows=moved_all(what.rows, by))


def moved_edit(edit: Edit, by: float) -> Edit:
    return msgspec.structs.replace(edit, at=edit.at + by) if by else edit


def moved_since(found: Since, by: float) -> Since:
    """Move all times of what other metas wrote."""
    return found._replace(
        rows=list(moved_all(found.rows, by)),
        batches=moved_batches(found.batches, by),
        dates={meta: at + by for meta, at in found.dates.items()},
    )
