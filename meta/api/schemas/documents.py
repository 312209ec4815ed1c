"""Records as REST takes and gives them: in exactly the spelling of a records file."""

from typing import Literal

from msgspec import UNSET, UnsetType

from meta.api.schemas.basics import AgentName, Body, Hostname, Version
from updater.wire.heartbeat import Attempt

Leftovers = Literal["", "leave", "end"]
UnknownStatus = Literal["", "wait", "upgrade"]


class SelectorBody(Body, omit_defaults=True):
    """Exactly one of them."""

    prefix: str | UnsetType = UNSET
    glob: str | UnsetType = UNSET
    hosts: list[Hostname] | UnsetType = UNSET
    label: str | UnsetType = UNSET


class FieldsBody(Body, omit_defaults=True):
    """Fields of a record, or of an override."""

    version: Version | UnsetType = UNSET
    tarball: str | list[str] | UnsetType = UNSET
    md5: str | UnsetType = UNSET
    cmd: Literal["start", "stop"] | UnsetType = UNSET
    sha256: str | UnsetType = UNSET
    attempt: Attempt | UnsetType = UNSET
    leftovers: Leftovers | UnsetType = UNSET
    unknown_status: UnknownStatus | UnsetType = UNSET
    run_user: str | UnsetType = UNSET
    work_dir: str | UnsetType = UNSET


class OverrideBody(FieldsBody, omit_defaults=True):
    """Exactly one of prefix, glob, hosts, label; and at least one of the other fields."""

    prefix: str | UnsetType = UNSET
    glob: str | UnsetType = UNSET
    hosts: list[Hostname] | UnsetType = UNSET
    label: str | UnsetType = UNSET


class RecordBody(FieldsBody, omit_defaults=True, kw_only=True):
    """The desired state of one agent. tarball: one base URL, or a list of them; attempt: hosts that rolled the version back at
    a lower one try it again; leftovers: whether processes that a stopped version leaves are ended; unknownStatus: whether an
    agent whose status cannot be understood is replaced; runUser, workDir: for hosts of coraldane's updater alone."""

    name: AgentName
    version: Version
    tarball: str | list[str]
    overrides: list[OverrideBody] | UnsetType = UNSET


class RecordsBody(Body):
    """All records: what a records file holds. Its revision is its ETag."""

    agents: list[RecordBody]


class RecordEdit(Body, omit_defaults=True):
    """Either fields to set, or names of fields to unset (none: the whole override). selector: of the override that is meant, in
    place of the record itself; one that is not there is made, as the last."""

    set: FieldsBody | UnsetType = UNSET
    unset: (
        list[
            Literal[
                "version",
                "tarball",
                "md5",
                "cmd",
                "sha256",
                "attempt",
                "leftovers",
                "unknownStatus",
                "runUser",
                "workDir",
            ]
        ]
        | UnsetType
    ) = UNSET
    selector: SelectorBody | UnsetType = UNSET


class RetryBody(Body, omit_defaults=True):
    """Whose hosts try their version again; without selectors all."""

    selectors: list[SelectorBody] | UnsetType = UNSET
