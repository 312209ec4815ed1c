"""Makes a version's directory of a verified tarball.

It is unpacked under a hidden name, checked, given its marker and synced, and only then gets its own name. So a directory
with a marker is complete, whenever the updater is killed.
"""

import logging

import msgspec

from updater import durable_files
from updater.artifact import extract, runnable
from updater.artifact.partial_download import Fetched
from updater.artifact.tar_reader import Limits
from updater.errors import Refused
from updater.model.layout import MARKER, AgentDir
from updater.model.observed import Marker

log = logging.getLogger("updater")


class Lacking(Refused):
    """The host lacks something that the version needs to run, such as an interpreter."""


def lay_out(fetched: Fetched, agent: AgentDir, version: str, limits: Limits, programs: str, now: float) -> None:
    """Make the version's directory. programs: the PATH of its scripts; now: Unix seconds.

    Raises Refused for bad content, Lacking, and TryLater for errors of the host. Then the caller removes the staging
    directory, of which `kept_tarball` may still need the control.
    """
    staging, install = agent.staging(version), agent.install(version)
    durable_files.make_directory(agent.path, 0o755)  # independent of our umask, as others run agents' tools
    durable_files.remove_tree(staging)
    unpacked = extract.unpack(fetched.file, staging, limits)
    if unpacked.skipped:
        log.info("%s: %s", agent.path.name, extract.in_words(unpacked.skipped))
    if problem := runnable.form_problem(staging / "control"):
        raise Refused(cannot_run(version, problem))
    if problem := runnable.missing(staging / "control", programs, install):
        raise Lacking(cannot_run(version, problem))
    marker = Marker(fetched.md5, fetched.sha256, int(now))
    durable_files.write_atomic(staging / MARKER, msgspec.json.encode(marker))
    durable_files.move_directory(staging, install, MARKER)


def cannot_run(version: str, problem: str) -> str:
    return f"control of {version} cannot run: {problem}"
