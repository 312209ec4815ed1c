"""The command `meta` from its first line on: Ctrl-C ends it before its parts are loaded, too, as it ends any program.

Else Python raises KeyboardInterrupt wherever the loading happens to be, which is a traceback, or is lost. While Python itself
starts, SIGINT waits (is blocked) in what `./control install` has installed.
"""

import signal


def main() -> None:
    """The entry point: all else is meta.cli's."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else who started us ignores it
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until updater.service.interrupt takes over
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from meta.cli import main as command

    command()
