"""The entry point of the command `meta`: while its modules are still being loaded, Ctrl-C ends it and SIGHUP waits.

Otherwise Python would raise KeyboardInterrupt somewhere in an import: a traceback, or lost. While Python itself starts, both
signals are blocked by the command that `./control install` writes.
"""

import signal


def main() -> None:
    """Run the command; everything else is in meta.cli, which lets SIGHUP through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # first, see updater.service.hangups
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the parent process wants it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until updater.service.interrupt takes over
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from meta.cli import main as command

    command()
