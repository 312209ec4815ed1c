"""Raises the limit of open files of this process: each connection needs one, and the default is often 1,024.

If the limit is too low for the connections that a service may have, it says so at its start, and what to do.
"""

import logging
import resource

log = logging.getLogger(__name__)


def allow(needed: int, more: int = 0) -> int:
    """Raise the soft limit to `needed` files and `more`, or as far as the hard limit allows. Returns the limit.

    Logs a warning if there are fewer than `needed`.
    """
    wanted = needed + more
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        log.warning(
            "at most %d files may be open, and %d are needed when all connections are in use: further clients will wait or "
            "be refused; raise LimitNOFILE= in the unit, or the hard limit (ulimit -Hn)",
            allowed,
            needed,
        )
    return allowed
