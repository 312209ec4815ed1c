"""The limit of open files of this process: each connection is one, and 1,024 is what many systems and shells give.

Promises that a service which may serve so many connections either can, or says at its start that it cannot and what to do.
"""

import logging
import resource

log = logging.getLogger(__name__)


def allow(wanted: int) -> None:
    """Raise the soft limit to `wanted` files, as far as the hard one lets us; what is missing is logged."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "at most %d files may be open, and %d are needed when all connections are in use: further clients will wait; raise "
            "LimitNOFILE= in the unit, or the hard limit (ulimit -Hn)",
            allowed,
            wanted,
        )
