"""SIGHUP before a command can handle it: it waits from the first line of `program` on, until the command is known.

A service ignores it then, until it can handle it: what it starts with has just been read. Any other command ends by it, as
where its terminal is closed.
"""

import signal


def let_through() -> None:
    """Have SIGHUP do what it does by default, also one that has waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def ignore() -> None:
    """Ignore SIGHUP, also one that has waited, until the service sets its handler."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    let_through()
