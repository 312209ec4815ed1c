"""Keeps a service up, whatever serves inside: a process of its own that starts it again when it ends by itself.

Promises a pause of FIRST seconds before the first new start, then twice as long each time, up to LONGEST, and FIRST again after
it was up for STEADY; a line in the log for each; that TERM and INT stop it at any moment, also within a pause; that HUP reaches
the service; that the service never outlives its keeper. A service that ends before it was ever ready is not started again: it
has said why.
"""

import ctypes
import logging
import os
import signal
import sys
import time

from meta.errors import TryLater
from updater.service.readiness import Announcer

FIRST, LONGEST, STEADY = 1.0, 60.0, 60.0  # seconds
LOOK_EVERY = 1.0  # seconds
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
log = logging.getLogger(__name__)


def keep_up(announcer: Announcer) -> None:
    """Returns in a new process, which is to serve and to announce itself. This one stays as its keeper, and ends by SystemExit
    when it is told to stop. To be called before there are threads."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # they are waited for, and so cannot come between two lines
    keeper, pause, was_ready = os.getpid(), 0.0, False
    while True:
        announcer.withdraw()
        began = time.monotonic()
        child = os.fork()
        if not child:
            return _serve_below(keeper)
        code, stopping = _end_of(child)
        was_ready = was_ready or announcer.said() is not None
        announcer.withdraw()
        if stopping or not was_ready:
            sys.exit(_exit_code(code, stopping))
        pause = next_pause(pause, time.monotonic() - began)
        log.error("meta ended with %s; it is started again in %g s", _in_words(code), pause)
        if _told_to_stop(pause):
            log.info("meta stopped")
            sys.exit(0)


def next_pause(pause: float, up: float) -> float:
    """Seconds until the next start. pause: before the last one, 0.0 for none; up: seconds from that to its end."""
    return min(2 * pause, LONGEST) if pause and up < STEADY else FIRST


def _serve_below(keeper: int) -> None:
    """In the new process: as in any other, but that it is stopped when its keeper dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != keeper:
        raise TryLater("the process that kept meta up is gone")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _end_of(child: int) -> tuple[int, bool]:
    """Wait for the child's end; returns its exit code, or minus its signal, and whether we were told to stop."""
    stopping = False
    while True:
        found = signal.sigtimedwait(_SIGNALS, LOOK_EVERY)
        ended, status = os.waitpid(child, os.WNOHANG)  # whatever woke us: a SIGCHLD alone is no promise
        if ended:
            return os.waitstatus_to_exitcode(status), stopping or _is_stop(found)
        if _is_stop(found):
            stopping = True
            os.kill(child, signal.SIGTERM)
        elif found and found.si_signo == signal.SIGHUP:
            os.kill(child, signal.SIGHUP)


def _is_stop(found: signal.struct_siginfo | None) -> bool:
    return found is not None and found.si_signo in (signal.SIGTERM, signal.SIGINT)


def _told_to_stop(within: float) -> bool:
    """Wait so many seconds, or until told to stop. A HUP changes nothing: the next start reads everything anyway."""
    deadline = time.monotonic() + within
    while (left := deadline - time.monotonic()) > 0:
        if _is_stop(signal.sigtimedwait(_SIGNALS, left)):
            return True
    return False


def _exit_code(code: int, stopping: bool) -> int:
    if code >= 0:
        return code
    return 0 if stopping else 1


def _in_words(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
