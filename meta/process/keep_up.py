"""Keeps a service running: a supervising process restarts it when it ends by itself.

The pause before a restart is FIRST seconds, doubled each time up to LONGEST, and FIRST again after the service ran for STEADY
seconds. Each restart is logged. TERM and INT stop the service at any time, also during a pause, and HUP is forwarded to it. The
service never outlives the supervisor. A service that ends before it was ever ready is not restarted, since it has reported why.
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
    """Return in a new process, which must serve and announce itself; this process stays as its supervisor.

    The supervisor ends by SystemExit when it is told to stop. Call this before any thread is started.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # signals are fetched by sigtimedwait only
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
    """Seconds until the next start. pause: before the last start, 0.0 for none; up: seconds that the service ran."""
    return min(2 * pause, LONGEST) if pause and up < STEADY else FIRST


def _serve_below(keeper: int) -> None:
    """Prepare the new process: usual signals, and TERM when its supervisor dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != keeper:
        raise TryLater("the process that kept meta up is gone")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _end_of(child: int) -> tuple[int, bool]:
    """Wait for the child's end; returns (its exit code, or minus its signal; whether we were told to stop)."""
    stopping = False
    while True:
        found = signal.sigtimedwait(_SIGNALS, LOOK_EVERY)
        ended, status = os.waitpid(child, os.WNOHANG)  # always checked, since several SIGCHLD may be merged
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
    """Wait `within` seconds, or until told to stop. A HUP is ignored, since the next start reads everything anyway."""
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
