"""Makes sure that Ctrl-C always ends a command in the foreground.

Python raises KeyboardInterrupt in the main thread. In a finaliser or a callback of the import system it is printed and lost.
During a C function, such as a DNS lookup, it is delayed. Therefore a thread watches the signal, too. It ends the process if
the main thread does not end within GRACE seconds, or at a second Ctrl-C. A SIGINT handler of the command itself takes
precedence. The exit code is EXIT_CODE, never that of a failure.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

GRACE = 1.0  # seconds
EXIT_CODE = 128 + signal.SIGINT
_SHOW_CURSOR = b"\x1b[?25h"


class _Interrupt:
    """A handler of SIGINT that raises KeyboardInterrupt, as Python's own, and records that it did."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt


@contextlib.contextmanager
def has_a_code() -> Iterator[None]:
    """Context in which SIGINT ends the process with EXIT_CODE and no traceback, even if another error replaced it.

    click turns it into exit code 1, and an import through a C capsule, as in `import ssl`, into ImportError. After the block
    SIGINT has its default action. Nothing is done if SIGINT is ignored, or outside the main thread.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) not in (signal.SIG_DFL, signal.default_int_handler):
        yield
        return
    interrupt = _Interrupt()
    try:
        try:
            signal.signal(signal.SIGINT, interrupt)
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # otherwise Python would end with a traceback
    except KeyboardInterrupt:
        sys.exit(EXIT_CODE)
    except BaseException as e:
        is_success = isinstance(e, SystemExit) and not e.code
        if interrupt.came and not is_success:
            sys.exit(EXIT_CODE)
        raise


@contextlib.contextmanager
def always_ends() -> Iterator[None]:
    """Context in which Ctrl-C always ends the process. Does nothing outside the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    thread = threading.Thread(target=_wait, args=(read,), name="interrupt", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(write)
        thread.join()
        os.close(read)


@contextlib.contextmanager
def asks_first(stop: Callable[[], None]) -> Iterator[None]:
    """Context in which the first INT or TERM calls `stop`, so that the work ends cleanly. A second one ends the process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    asked = False

    def ask(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            _end(128 + number)
        asked = True
        stop()
        with contextlib.suppress(OSError, RuntimeError):  # a closed terminal; or stderr is being written to right now
            print("stopping after the current action; interrupt again to stop at once", file=sys.stderr, flush=True)

    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(read: int) -> None:
    """Watch for SIGINT until the pipe is closed. `read`: the pipe's end, which gets one byte with the number of each signal."""
    while signals := os.read(read, 64):
        if signal.SIGINT not in signals or not _is_to_end_us(signal.getsignal(signal.SIGINT)):
            continue
        is_over = select.select([read], [], [], GRACE)[0] and not os.read(read, 64)
        if not is_over:
            _end()


def _is_to_end_us(handler: object) -> bool:
    return handler is signal.default_int_handler or isinstance(handler, _Interrupt)


def _end(code: int = EXIT_CODE) -> None:
    """End without Python's cleanup, which would wait for the main thread; but show the terminal's cursor again."""
    if os.isatty(1) and select.select([], [1], [], 0)[1]:
        os.write(1, _SHOW_CURSOR + b"\n")
    os._exit(code)
