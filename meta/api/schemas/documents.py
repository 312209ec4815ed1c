"""Records in the REST API: in exactly the form of a records file."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from meta.api.schemas.basics import AgentName, Body, Hostname, Version
from updater.wire.heartbeat import Attempt

Leftovers = Literal["", "leave", "end"]
UnknownStatus = Literal["", "wait", "upgrade"]


class SelectorBody(Body, omit_defaults=True):
    """Which hosts: exactly one of these fields."""

    prefix: Annotated[str | UnsetType, Meta(description="of the hostname")] = UNSET
    glob: Annotated[str | UnsetType, Meta(description="of the hostname")] = UNSET
    hosts: list[Hostname] | UnsetType = UNSET
    label: Annotated[str | UnsetType, Meta(description="`env=staging`, or `env` for any value")] = UNSET


class FieldsBody(Body, omit_defaults=True):
    """Fields of a record, or of an override. sha256, and md5 unless it is a URL or blank, are digests of the version next to
    them. Setting another version drops the digests of the former one."""

    version: Version | UnsetType = UNSET
    tarball: Annotated[
        str | list[str] | UnsetType, Meta(description="the base URL of tarballs, or a list of them: mirrors")
    ] = UNSET
    md5: Annotated[
        str | UnsetType, Meta(description="32 hex digits, or the base URL of a file NAME-VERSION.tar.gz.md5")
    ] = UNSET
    cmd: Literal["start", "stop"] | UnsetType = UNSET
    sha256: Annotated[str | UnsetType, Meta(description="64 hex digits")] = UNSET
    attempt: Annotated[
        Attempt | UnsetType, Meta(description="hosts that rolled the version back at a lower attempt try it again")
    ] = UNSET
    leftovers: Annotated[
        Leftovers | UnsetType, Meta(description="whether processes that a stopped version leaves behind are ended")
    ] = UNSET
    unknown_status: Annotated[
        UnknownStatus | UnsetType, Meta(description="whether an agent of unknown status is upgraded")
    ] = UNSET
    run_user: Annotated[str | UnsetType, Meta(description="only for hosts of coraldane's updater")] = UNSET
    work_dir: Annotated[str | UnsetType, Meta(description="only for hosts of coraldane's updater")] = UNSET


class OverrideBody(FieldsBody, omit_defaults=True):
    """Exactly one of prefix, glob, hosts, label; and at least one of the other fields."""

    prefix: str | UnsetType = UNSET
    glob: str | UnsetType = UNSET
    hosts: list[Hostname] | UnsetType = UNSET
    label: str | UnsetType = UNSET


class RecordBody(FieldsBody, omit_defaults=True, kw_only=True):
    """The desired state of one agent."""

    name: AgentName
    version: Version
    tarball: Annotated[str | list[str], Meta(description="the base URL of tarballs, or a list of them: mirrors")]
    overrides: Annotated[
        list[OverrideBody] | UnsetType, Meta(description="of several that fit a host, later ones win")
    ] = UNSET


class RecordsBody(Body):
    """All records, as in a records file. The ETag is the revision."""

    agents: list[RecordBody]


class RecordEdit(Body, omit_defaults=True):
    """Either fields to set, or names of fields to unset ([]: remove the whole override).

    With a selector, the override with this selector is edited instead of the record. A missing one is created as the last.
    """

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
    """Which hosts try their version again."""

    selectors: Annotated[list[SelectorBody] | UnsetType, Meta(description="without any: all hosts")] = UNSET
