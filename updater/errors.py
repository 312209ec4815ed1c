"""Errors named by their remedy; every foreign error becomes one of these where it is born.

An error's text is one sentence for the log, the report and the person who reads either.
"""


class UpdaterError(Exception):
    """Base of all errors that this package raises on purpose. evidence: the last of a script's output, if there is one."""

    def __init__(self, text: str, evidence: str = "") -> None:
        super().__init__(text)
        self.evidence = evidence


class TryLater(UpdaterError):
    """The network, a full disk, a lock: the next cycle may find it well. after: seconds to wait at least, if a server said."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class Refused(UpdaterError):
    """A bad artifact, order or reply: nothing to do but wait for new orders."""


class Interrupted(UpdaterError):
    """The updater is to stop, or the order was withdrawn, or a person holds the agent: nothing has failed."""


class Misconfigured(UpdaterError):
    """A person must change something on this host."""


class NotThere(UpdaterError):
    """What a person named is not on this host, or nothing of it is to be done."""


class ControlFailed(UpdaterError):
    """An agent's control script did not do what it was asked to."""
