"""When to try again. Pure: chance is given by the caller."""

LONGEST = 8  # intervals between two heartbeats while meta is away


def until_next_beat(failures: int, interval: float, asked: float, chance: float) -> float:
    """Seconds until the next heartbeat after so many failures in a row: one interval, two, four, then eight.

    asked: what the server asked for (Retry-After), 0 when it did not; chance: 0..1, spreads hosts that failed together over a
    quarter to either side. Never more than eight intervals, whatever is asked.
    """
    doubled = interval * min(LONGEST, 2.0 ** min(failures - 1, 10))
    return min(max(doubled * (0.75 + chance / 2), asked), interval * LONGEST)


def until_retry(attempt: int, asked: float, chance: float) -> float:
    """Seconds until a cut download is gone on with: half a second, doubling up to half a minute, spread as above."""
    return max(min(0.5 * 2.0 ** min(attempt, 10), 30.0) * (0.75 + chance / 2), asked)
