"""Records in the REST API: in exactly the form of a records file."""

from typing import Literal

from msgspec import UNSET, UnsetType

from meta.api.schemas.basics import AgentName, Body, Hostname, Version
from updater.wire.heartbeat import Attempt

Leftovers = Literal["", "leave", "end"]
UnknownStatus = Literal["", "wait", "upgrade"]


class SelectorBody(Body, omit_defaults=True):
    """Exactly one of these fields."""

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
    a lower attempt try it again; leftovers: whether processes that a stopped version leaves are ended; unknownStatus: whether
    an agent of unknown status is replaced; runUser, workDir: only for hosts of coraldane's updater."""

    name: AgentName
    version: Version
    tarball: str | list[str]
    overrides: list[OverrideBody] | UnsetType = UNSET


class RecordsBody(Body):
    """All records, as in a records file. The ETag is the revision."""

    agents: list[RecordBody]


class RecordEdit(Body, omit_defaults=True):
    """Either fields to set, or names of fields to unset ([]: the whole override). selector: edit the override with this
    selector instead of the record itself; a missing one is created as the last."""

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
    """The hosts that try their version again; without selectors all."""

    selectors: list[SelectorBody] | UnsetType = UNSET
