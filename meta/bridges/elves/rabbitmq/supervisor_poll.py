"""Calls of `appAuthInfo` to the supervisor: when one is due, and what its answer means. Independent of RabbitMQ.

If a call is not answered within five seconds, or its answer is invalid, the last app table stays in force.
"""

import logging
from uuid import uuid4

from meta.bridges.elves.app_table import BadTable, parse_table
from meta.bridges.elves.app_table_store import KeptTable
from meta.bridges.elves.rabbitmq.messages import Dropped, parse_result
from meta.bridges.elves.rate_limited_log import RateLimitedLog

SUPERVISOR_KEY = "heartbeat.supervisor"
CALL = f"{SUPERVISOR_KEY}.appAuthInfo"
ANSWER_WITHIN = 5.0  # seconds
log = logging.getLogger(__name__)


class Asking:
    """The calls to the supervisor. For one thread. every: seconds between two calls."""

    def __init__(self, kept: KeptTable, every: float):
        self._kept = kept
        self._every = every
        self._next = 0.0
        self._asked = 0.0
        self._id = ""
        self._limited_log = RateLimitedLog()

    def due(self, now: float) -> str:
        """Return the correlation id for a call that is due now, "" if none is. now: monotonic seconds."""
        if self._id and now - self._asked >= ANSWER_WITHIN:
            log.warning("the supervisor did not answer appAuthInfo in %g s; the last app table stays", ANSWER_WITHIN)
            self._id = ""
        if self._id or now < self._next:
            return ""
        self._id, self._asked, self._next = uuid4().hex, now, now + self._every
        return self._id

    def reconnected(self) -> None:
        """Make a call due at once: one over the former connection is never answered."""
        self._id, self._next = "", 0.0

    def answered(self, correlation_id: str | None, data: bytes) -> None:
        """Handle a message in our reply queue."""
        if not self._id or correlation_id not in (None, "", self._id):
            text = "dropped an answer of the supervisor that belongs to no call, or came too late"
            self._limited_log.say(log, text)
            return
        self._id = ""
        try:
            table = parse_table(parse_result(data))
        except (Dropped, BadTable) as e:
            log.warning("the supervisor's answer to appAuthInfo is invalid: %s; the last app table stays", e)
            return
        self._kept.put(table, "appAuthInfo")
