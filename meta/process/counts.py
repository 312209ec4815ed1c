"""What this process knows of its connections and of its loop, for other threads. Changed by the loop's thread alone."""

from collections import Counter


class Counts:
    """Totals since the start, and what is open now."""

    def __init__(self) -> None:
        self.connections = 0  # open now
        self.downloads = 0  # under way now
        self.refused: Counter[int] = Counter()  # requests that were refused before anything handled them, by status
        self.parked: dict[str, float] = {}  # hosts that are parked here, and since when (Unix seconds)
        self.wakes = 0
        self.wake_seconds = 0.0  # from the last change that woke hosts to the last of these wakes
        self.stalls = 0  # times that the loop stood still
