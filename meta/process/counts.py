"""What this process counts of its connections and of its loop, for /metrics. Changed by the loop's thread alone."""

from collections import Counter


class Counts:
    """Totals since the start, and what is open now."""

    def __init__(self) -> None:
        self.connections = 0  # open now
        self.downloads = 0  # under way now
        self.refused: Counter[int] = Counter()  # requests that were refused before anything handled them, by status
        self.stalls = 0  # times that the loop stood still
