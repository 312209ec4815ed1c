"""When to try again. Pure: chance is given by the caller."""

from zlib import crc32

LONGEST = 8  # intervals between two heartbeats while meta is away
SOON = 10.0  # seconds in which a host that meta has never answered makes its first heartbeat


def until_first_beat(interval: float, chance: float, hostname: str, was_answered: bool) -> float:
    """Seconds from a start to its first heartbeat: a random part (chance: 0..1) of the interval, for a fleet may start at once.

    was_answered: whether meta has ever answered this host. A new one need not wait for long; its share of SOON is by its name,
    so that a rack that is started together, and again, is spread in the same way each time.
    """
    if was_answered:
        return interval * chance
    return min(interval, SOON) * crc32(hostname.encode()) / 2**32


def until_next_beat(failures: int, interval: float, asked: float, chance: float) -> float:
    """Seconds until the next heartbeat after so many failures in a row: one interval, two, four, then eight.

    asked: what the server asked for (Retry-After), 0 when it did not; chance: 0..1, spreads hosts that failed together over a
    quarter to either side. Never more than eight intervals, whatever is asked.
    """
    doubled = interval * min(LONGEST, 2.0 ** min(failures - 1, 10))
    return min(max(doubled * (0.75 + chance / 2), asked), interval * LONGEST)


def until_next_enrolment(attempt: int, asked: float, chance: float) -> float:
    """Seconds until meta is asked again for a token: never before the time it asked for, and spread over a second after it,
    then two, up to a minute: a rack asks at once, and is told the same."""
    return max(asked, 0.5) + chance * min(2.0 ** min(attempt, 10), 60.0)


def until_retry(attempt: int, asked: float, chance: float) -> float:
    """Seconds until a cut download is gone on with: half a second, doubling up to half a minute, spread as above."""
    return max(min(0.5 * 2.0 ** min(attempt, 10), 30.0) * (0.75 + chance / 2), asked)
