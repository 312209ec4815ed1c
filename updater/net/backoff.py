"""Delays before the next try, in seconds. Pure: the caller passes the random number `chance`, 0 to 1."""

from zlib import crc32

LONGEST = 8  # at most so many intervals between two heartbeats while meta is away
SOON = 10.0  # seconds within which a host that meta has never answered sends its first heartbeat


def until_first_beat(interval: float, chance: float, hostname: str, was_answered: bool) -> float:
    """Seconds from a start to its first heartbeat: a random part of the interval, since a whole fleet may start at once.

    was_answered: whether meta has ever answered this host. A new host waits less than SOON seconds. How much less depends on
    its name, so hosts that start together are spread in the same way each time.
    """
    if was_answered:
        return interval * chance
    return min(interval, SOON) * crc32(hostname.encode()) / 2**32


def until_next_beat(failures: int, interval: float, asked: float, chance: float) -> float:
    """Seconds until the next heartbeat after `failures` in a row: one interval, two, four, then at most eight.

    asked: seconds that the server asked for (Retry-After), 0 for none; never more than eight intervals are granted.
    `chance` spreads hosts that failed together by up to 25 % in both directions.
    """
    doubled = interval * min(LONGEST, 2.0 ** min(failures - 1, 10))
    return min(max(doubled * (0.75 + chance / 2), asked), interval * LONGEST)


def until_next_enrolment(attempt: int, asked: float, chance: float) -> float:
    """Seconds until meta is asked again for a token: never before the `asked` seconds have passed.

    The delay is spread over one more second, then two, up to a minute, since a whole rack asks at once.
    """
    return max(asked, 0.5) + chance * min(2.0 ** min(attempt, 10), 60.0)


def until_retry(attempt: int, asked: float, chance: float) -> float:
    """Seconds until an interrupted download is resumed: 0.5 s, doubled each time up to 30 s, and spread as above."""
    return max(min(0.5 * 2.0 ** min(attempt, 10), 30.0) * (0.75 + chance / 2), asked)
