"""What one updater works with: its configuration, its paths, its connections, and the wish of its owner to stop."""

import time
from dataclasses import dataclass

from updater.config import Config
from updater.errors import TryLater
from updater.http import Http
from updater.layout import Layout


@dataclass(slots=True)
class Host:
    """Passed to everything that acts; the configuration alone may be replaced (by a reload, between two cycles)."""

    layout: Layout
    config: Config
    http: Http
    stopping: bool = False

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    def check_stopping(self) -> None:
        """Raises TryLater once the updater is asked to stop: what has not begun stays undone."""
        if self.stopping:
            raise TryLater("the updater is stopping")
