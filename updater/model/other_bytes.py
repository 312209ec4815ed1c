"""Why an order is refused whose version is installed with other bytes than it wants. Pure.

It is never installed again over what runs. Installs that were there before the updater, or before digests were remembered,
have none to compare; nor has an order whose digest is in a file at an URL.
"""

from updater.model.memory import Memory
from updater.model.observed import Marker, Observed
from updater.model.trials import same_artifact
from updater.wire.heartbeat import Desired
from updater.wire.names import STOP, is_digest


def refusal(observed: Observed, desired: Desired, memory: Memory) -> str:
    """The reason, also while a person holds the agent; "" if there is none, or the version was rolled back anyway."""
    is_rejected = memory.rejected is not None and same_artifact(memory.rejected.order, desired)
    return "" if desired.cmd == STOP or observed.trouble or is_rejected else problem(observed, desired)


def problem(observed: Observed, desired: Desired) -> str:
    """Why the install of the desired version has other bytes than the order wants; "" if it has the same."""
    installed = observed.installs.get(desired.version, Marker())
    for kind, ours, theirs in (
        ("sha256", installed.sha256, desired.sha256),
        ("md5", installed.md5, desired.md5 if is_digest(desired.md5) and not desired.sha256 else ""),
    ):
        if ours and theirs and ours != theirs.lower():
            return (
                f"{desired.version} is installed with {kind} {ours}, desired says {theirs.lower()}: "
                "publish changed bytes as a new version"
            )
    return ""
