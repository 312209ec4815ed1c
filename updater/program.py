"""The entry point of the command `updater`: while its modules are still loading, Ctrl-C ends it and SIGHUP waits.

Otherwise Python would raise KeyboardInterrupt during an import, which shows a traceback or is lost. The launcher that
`./control install` writes blocks both signals while Python itself starts.
"""

import signal


def main() -> None:
    """Unblock SIGINT and give it its default action, block SIGHUP, then run updater.cli, which lets it through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # first, see updater.service.hangups
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise the parent process had it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until updater.service.interrupt takes over
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    from updater.cli.main import main as command

    command(prog_name="updater")
