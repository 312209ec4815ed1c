"""A history -> what in it breaks a promise, each as one line. Pure."""

from collections.abc import Iterator

from lab.partitions import checks_of_hosts, checks_of_records, checks_of_tokens
from lab.partitions.history import History
from lab.partitions.judging import SETTLED

CHECKS = (
    checks_of_records.kept,
    checks_of_records.in_order,
    checks_of_records.conditions,
    checks_of_records.unchanged,
    checks_of_records.in_force,
    checks_of_records.monotonic,
    checks_of_records.same_content,
    checks_of_records.stale,
    checks_of_tokens.tokens,
    checks_of_hosts.retirements,
    checks_of_hosts.beats,
    checks_of_hosts.reports,
)


def violations(history: History) -> list[str]:
    """All of them; none where every promise was kept."""
    checks = (*CHECKS, noticed, equal_at_the_end)
    return [f"{check.__name__}: {line}" for check in checks for line in check(history)]


def noticed(history: History) -> Iterator[str]:
    """A meta that had acknowledged what a failover lost in the same moment reads everything again."""
    for loss in history.sudden:
        if not loss.noticed:
            yield f"meta {loss.meta} did not notice that it had acknowledged {loss.what}, which is lost"


def equal_at_the_end(history: History) -> Iterator[str]:
    """All metas and the database."""
    end = history.end
    number = max((one.number for one in end.revisions), default=0)
    if len(set(end.records)) > 1:
        yield f"the metas have different records: {end.records}"
    elif end.records and end.records[0][0] != number:
        yield f"the metas are at revision {end.records[0][0]}, the database at {number}"
    for meta, known in enumerate(end.hosts):
        differing = sorted(
            name for name in known.keys() | end.kept_hosts.keys() if known.get(name) != end.kept_hosts.get(name)
        )
        if differing:
            name = differing[0]
            yield (
                f"meta {meta} knows {len(differing)} hosts otherwise than the database, as {name}: "
                f"{known.get(name)} and {end.kept_hosts.get(name)}"
            )
    if end.settled > SETTLED:
        yield f"{end.settled:.0f} s until all were equal"
