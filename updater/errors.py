"""Errors, named by their remedy. Errors of libraries are converted to these where they are raised.

The text of an error is one sentence for people, in logs and reports.
"""


class UpdaterError(Exception):
    """Base class of all errors of this package. evidence: the end of a script's output, or ""."""

    def __init__(self, text: str, evidence: str = "") -> None:
        super().__init__(text)
        self.evidence = evidence


class TryLater(UpdaterError):
    """A temporary error, such as of the network or a full disk: the next cycle tries again.

    after: the least number of seconds to wait, as a server asked; 0 if none did.
    """

    def __init__(self, text: str, after: float = 0.0, evidence: str = "") -> None:
        super().__init__(text, evidence)
        self.after = after


class Refused(UpdaterError):
    """An invalid artifact, order or reply: it is not tried again until the order changes."""


class Interrupted(UpdaterError):
    """The updater is to stop, or the order was withdrawn, or a person holds the agent: nothing has failed."""


class Misconfigured(UpdaterError):
    """An error that a person must correct on this host."""


class NotThere(UpdaterError):
    """A command cannot be carried out: the agent is not on this host, or there is nothing to do for it."""


class PortTaken(UpdaterError):
    """Others hold a port that the agent had: no start can succeed, which says nothing about the version."""


class ControlFailed(UpdaterError):
    """An agent's control script, or another program of an install, has failed."""
