"""Edits: what each makes of the records, what it refuses, that history goes forth and back, and who sees what in a conflict."""

# ruff: noqa: E501 (the tables of errors are read line by line)

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.record_sets import (
    AGENTS,
    BANS,
    BASES,
    COMMANDS,
    HOSTNAMES,
    LABELS,
    MD5S,
    RECORD_LISTS,
    RECORD_SETS,
    RECORDS,
    SELECTORS,
    VERSIONS,
    resolve,
)
from helpers.replaying import replay
from meta.edits import conflicts, diff, operations
from meta.errors import Conflict, EditRefused, NotThere
from meta.records import history
from meta.records.files.load import parse_data
from meta.records.history import Change, Revision
from meta.records.model import Ban, Override, Record, RecordSet, Release, as_fields
from meta.records.selectors import Glob, Hosts, Label, Prefix

ONE, OTHER = "0" * 32, "f" * 32  # digests
STAGING = Label("env=staging")
A = Record("a", Release("1"), "http://r")
B = Record("b", Release("1"), "http://r")


def holding(*records: Record, **more) -> RecordSet:
    return RecordSet(records=records, **more)


def refusal(edit, *arguments) -> list[str]:
    with pytest.raises((EditRefused, NotThere)) as refused:
        edit(*arguments)
    return str(refused.value).splitlines()


def lines(before: RecordSet, after: RecordSet) -> list[str]:
    return diff.difference(history.changes(before, after))


def revision_of(before: RecordSet, after: RecordSet, who: str = "ann", why: str = "") -> Revision:
    return Revision(before.revision + 1, 5.0, who, why, "set", history.changes(before, after))


def through_json(revision: Revision) -> Revision:
    """As the store keeps it."""
    return msgspec.json.decode(msgspec.json.encode(revision), type=Revision)


class History:
    """Edits made one after the other, as a store would keep them; states[n] is the set at revision n."""

    def __init__(self, *records: Record):
        start = holding(*records)
        self.states = [RecordSet()]
        self.revisions: list[Revision] = []
        if records:
            self.commit(start)

    @property
    def now(self) -> RecordSet:
        return self.states[-1]

    def commit(self, after: RecordSet, who: str = "ann", why: str = "") -> None:
        made = through_json(revision_of(self.now, after, who, why))
        self.revisions.append(made)
        self.states.append(history.committed(after, made))

    def since(self, number: int) -> list[Revision]:
        return self.revisions[number:]


# --- whole records ---


@pytest.mark.parametrize(
    ("before", "put", "after"),
    [
        ((), A, (A,)),
        ((B,), A, (B, A)),
        ((A, B), Record("a", Release("2"), "http://s"), (Record("a", Release("2"), "http://s"), B)),
    ],
)
def test_a_record_is_put_in_its_place_and_a_new_one_comes_last(before, put, after):
    assert operations.put_record(holding(*before), put).records == after


def test_a_record_is_deleted_by_its_name_and_its_bans_stay():
    records = holding(A, B, bans=(Ban("a", "2"),))
    assert operations.delete_record(records, "a") == holding(B, bans=(Ban("a", "2"),))


@pytest.mark.parametrize(
    ("agent", "text"),
    [
        ("falcon-agnet", 'there is no agent "falcon-agnet"; did you mean falcon-agent?'),
        ("zzz", 'there is no agent "zzz"; set its version and tarball to create it'),
        ("x\n<img>\ud800", r'there is no agent "x <img>\ud800"; set its version and tarball to create it'),
    ],
)
def test_what_is_not_there_cannot_be_deleted(agent, text):
    assert refusal(operations.delete_record, holding(Record("falcon-agent", Release("1"), "http://r")), agent) == [text]


def test_applied_records_are_all_there_is_in_their_order():
    records = holding(A, B, bans=(Ban("b", "7"),), labels={"h": {"env": "x"}})
    new = (Record("c", Release("1"), "http://r"), Record("b", Release("2"), "http://r"))
    assert operations.apply(records, new) == msgspec.structs.replace(records, records=new)
    assert operations.apply(records, []).records == ()


def test_the_same_agent_applied_twice_is_refused():
    assert refusal(operations.apply, holding(), [A, B, A]) == ["a: is given twice; leave one of them out"]


def test_applied_overrides_for_every_host_are_spelled_in_our_own_form():
    overrides = (Override(Prefix(""), Release("2")), Override(Prefix("x")))
    [record] = operations.apply(holding(), [Record("a", Release("1"), "http://r", overrides=overrides)]).records
    assert record.overrides == (Override(Glob("*"), Release("2")),)


# --- some fields ---


@pytest.mark.parametrize(
    ("before", "fields", "selector", "after"),
    [
        (None, {"version": "1", "tarball": "http://r"}, None, A),
        (None, {"version": "1", "tarball": ["http://r", "http://s"], "cmd": "stop"}, None, Record("a", Release("1"), "http://r", cmd="stop", mirrors=("http://s",))),
        (A, {"version": "2"}, None, Record("a", Release("2"), "http://r")),
        (A, {"version": "2", "md5": ONE}, None, Record("a", Release("2", md5=ONE), "http://r")),
        (Record("a", Release("1"), "http://r", mirrors=("http://s",)), {"tarball": "http://t"}, None, Record("a", Release("1"), "http://t")),
        (A, {"version": "2"}, STAGING, Record("a", Release("1"), "http://r", overrides=(Override(STAGING, Release("2")),))),
        (
            Record("a", Release("1"), "http://r", overrides=(Override(STAGING, Release("2")), Override(Prefix("x"), cmd="stop"))),
            {"cmd": "stop", "version": "3"},
            STAGING,
            Record("a", Release("1"), "http://r", overrides=(Override(STAGING, Release("3"), cmd="stop"), Override(Prefix("x"), cmd="stop"))),
        ),
        (  # of two with the same selector the later one wins, so it is the one to set
            Record("a", Release("1"), "http://r", overrides=(Override(STAGING, Release("2")), Override(STAGING, cmd="stop"))),
            {"version": "3"},
            STAGING,
            Record("a", Release("1"), "http://r", overrides=(Override(STAGING, Release("2")), Override(STAGING, Release("3"), cmd="stop"))),
        ),
        (  # the same hosts in another order are the same selector
            Record("a", Release("1"), "http://r", overrides=(Override(Hosts(frozenset("xy")), Release("2")),)),
            {"version": "3"},
            Hosts(frozenset("yx")),
            Record("a", Release("1"), "http://r", overrides=(Override(Hosts(frozenset("xy")), Release("3")),)),
        ),
    ],
)  # fmt: skip
def test_fields_are_set_where_they_are_wanted(before, fields, selector, after):
    records = holding(*filter(None, [before]), B)
    found = operations.set_fields(records, "a", fields, selector)
    assert found.record("a") == after
    assert found.record("b") == B


@pytest.mark.parametrize(
    ("agent", "fields", "selector", "texts"),
    [
        ("a", {}, None, ["a: nothing to set; give one of version, tarball, md5, cmd, sha256, attempt, leftovers, unknownStatus, runUser, workDir"]),
        ("a", {"vresion": "2"}, None, ["a.vresion: unknown key; did you mean version?"]),
        ("a", {"name": "c"}, None, ["a.name: unknown key; known here: version, tarball, md5, cmd, sha256, attempt, leftovers, unknownStatus, runUser, workDir"]),
        ("a", {"version": "$(id)", "cmd": "x"}, None, ["a.version: version \"$(id)\" is not 1 to 64 letters, digits, '.', '_', '+', '~', '=' or '-', the first a letter or digit", 'a.cmd: cmd "x" is not start or stop']),
        ("a", {"version": ""}, STAGING, ["a [label env=staging].version: version is blank"]),
        ("a", {"tarball": []}, None, ["a.tarball: must be one base URL, or a list of 1 to 16"]),
        ("a", {"tarball": ["http://r", "file:///x"]}, None, ['a.tarball[1]: tarball "file:///x" is not an http or https URL of a directory']),
        ("a", {"version": 5}, None, ["a.version: must be text, not a number"]),
        ("c", {"cmd": "stop"}, None, ["c: version is missing; a new agent needs it", "c: tarball is missing; a new agent needs it"]),
        ("c/d", {"version": "1", "tarball": "http://r"}, None, ["c/d: name \"c/d\" is not 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"]),
        ("c", {"version": "1", "tarball": "http://r"}, STAGING, ['there is no agent "c"; set its version and tarball to create it']),
    ],
)  # fmt: skip
def test_wrong_fields_are_refused_all_at_once(agent, fields, selector, texts):
    assert refusal(operations.set_fields, holding(A), agent, fields, selector) == texts


def test_fields_that_are_nested_without_end_are_refused():
    deep: list = []
    for _ in range(1000):
        deep = [deep]
    assert refusal(operations.set_fields, holding(A), "a", {"tarball": deep}) == ["a: nested more than 32 deep"]


WITH_MD5 = Record("a", Release("1", md5=ONE), "http://r")
WITH_BOTH = Record("a", Release("1", md5=ONE, sha256=ONE * 2), "http://r")
CANARY = Override(Prefix("w"), Release("2", OTHER, OTHER * 2))
HALF = Override(Prefix("x"), Release("2", md5=OTHER.upper()))
UNLIKE = Override(Prefix("x"), Release("2", md5=ONE))
BUILT = Override(Prefix("x"), tarball="http://s")  # another base, where another 2 may be
ELSEWHERE = Record("a", Release("1"), "http://r", md5_base="http://sums")


def staged(*overrides: Override, release: Release = WITH_MD5.release) -> Record:
    return Record("a", release, "http://r", overrides=overrides)


@pytest.mark.parametrize(
    ("before", "fields", "selector", "after"),
    [
        # another version drops the digests of the former one, and the same one keeps them
        (WITH_BOTH, {"version": "2"}, None, Record("a", Release("2"), "http://r")),
        (WITH_BOTH, {"version": "2", "sha256": OTHER * 2}, None, Record("a", Release("2", sha256=OTHER * 2), "http://r")),
        (WITH_BOTH, {"version": "1"}, None, WITH_BOTH),
        (WITH_BOTH, {"version": "1", "md5": OTHER}, None, Record("a", Release("1", OTHER, ONE * 2), "http://r")),
        (WITH_BOTH, {"cmd": "stop"}, None, msgspec.structs.replace(WITH_BOTH, cmd="stop")),
        (WITH_BOTH, {"md5": "", "sha256": ""}, None, Record("a", Release("1"), "http://r")),
        # where digests are stays
        (ELSEWHERE, {"version": "2"}, None, Record("a", Release("2"), "http://r", md5_base="http://sums")),
        (ELSEWHERE, {"md5": ONE}, None, WITH_MD5),
        (WITH_MD5, {"md5": "http://sums"}, None, ELSEWHERE),
        # an override takes the digests over for the record's own version
        (WITH_MD5, {"version": "1"}, STAGING, staged(Override(STAGING, Release("1", md5=ONE)))),
        # also with a tarball of its own, since one that names no version has them too
        (WITH_BOTH, {"version": "1", "tarball": "http://s"}, STAGING, staged(Override(STAGING, WITH_BOTH.release, tarball="http://s"), release=WITH_BOTH.release)),
        (staged(Override(STAGING, tarball="http://s"), release=WITH_BOTH.release), {"version": "1"}, STAGING, staged(Override(STAGING, WITH_BOTH.release, tarball="http://s"), release=WITH_BOTH.release)),
        (WITH_BOTH, {"version": "1", "tarball": "http://s", "md5": ONE.upper()}, STAGING, staged(Override(STAGING, Release("1", ONE.upper(), ONE * 2), tarball="http://s"), release=WITH_BOTH.release)),
        # but not next to a digest of another file
        (WITH_BOTH, {"version": "1", "tarball": "http://s", "md5": OTHER}, STAGING, staged(Override(STAGING, Release("1", OTHER), tarball="http://s"), release=WITH_BOTH.release)),
        (WITH_BOTH, {"version": "1", "sha256": OTHER * 2}, STAGING, staged(Override(STAGING, Release("1", sha256=OTHER * 2)), release=WITH_BOTH.release)),
        (WITH_BOTH, {"version": "1", "tarball": "http://s", "md5": "", "sha256": ""}, STAGING, staged(Override(STAGING, Release("1"), tarball="http://s", md5_base=""), release=WITH_BOTH.release)),
        (WITH_MD5, {"version": "2"}, STAGING, staged(Override(STAGING, Release("2")))),
        (staged(Override(STAGING, Release("2", md5=OTHER))), {"version": "3"}, STAGING, staged(Override(STAGING, Release("3")))),
        (staged(Override(STAGING, Release("2", md5=OTHER))), {"version": "3"}, None, staged(Override(STAGING, Release("2", md5=OTHER)), release=Release("3"))),
        (staged(Override(STAGING, Release("2"))), {"md5": OTHER}, STAGING, staged(Override(STAGING, Release("2", md5=OTHER)))),
        (staged(Override(STAGING, Release("2", md5=OTHER))), {"md5": "http://sums"}, STAGING, staged(Override(STAGING, Release("2"), md5_base="http://sums"))),
        (staged(Override(STAGING, md5_base="http://sums")), {"version": "1"}, STAGING, staged(Override(STAGING, Release("1"), md5_base="http://sums"))),
        (staged(Override(STAGING, Release("2"), md5_base="http://sums")), {"md5": OTHER}, STAGING, staged(Override(STAGING, Release("2", md5=OTHER)))),
        (WITH_MD5, {"md5": "http://sums"}, STAGING, staged(Override(STAGING, md5_base="http://sums"))),
        (staged(Override(STAGING, Release("2"))), {"version": "1"}, STAGING, staged(Override(STAGING, Release("1", md5=ONE)))),
        # a version that was tried in overrides keeps their digests when the record gets it, where they agree
        (staged(CANARY), {"version": "2"}, None, staged(CANARY, release=CANARY.release)),
        (staged(CANARY, HALF), {"version": "2"}, None, staged(CANARY, HALF, release=CANARY.release)),
        (staged(CANARY, UNLIKE), {"version": "2"}, None, staged(CANARY, UNLIKE, release=Release("2"))),
        (staged(CANARY), {"version": "2", "md5": ONE}, None, staged(CANARY, release=Release("2", md5=ONE))),
        (staged(CANARY), {"version": "2", "md5": "http://sums"}, None, msgspec.structs.replace(staged(CANARY, release=Release("2")), md5_base="http://sums")),
        (staged(CANARY, BUILT), {"version": "2"}, None, staged(CANARY, BUILT, release=Release("2"))),
        (msgspec.structs.replace(ELSEWHERE, overrides=(CANARY,)), {"version": "2"}, None, msgspec.structs.replace(ELSEWHERE, release=Release("2", sha256=OTHER * 2), overrides=(CANARY,))),
        (staged(CANARY), {"version": "2"}, STAGING, staged(CANARY, Override(STAGING, CANARY.release))),
        (staged(CANARY), {"version": "2", "tarball": "http://s"}, STAGING, staged(CANARY, Override(STAGING, Release("2"), tarball="http://s"))),
    ],
)  # fmt: skip
def test_a_version_never_gets_the_digests_of_another(before, fields, selector, after):
    assert operations.set_fields(holding(before), "a", fields, selector).record("a") == after


@pytest.mark.parametrize("fields", [{"md5": ONE}, {"sha256": ONE * 2}, {"sha256": ""}])
def test_a_digest_of_no_version_is_refused(fields):
    [key] = fields
    records = holding(staged(Override(STAGING, cmd="stop")))
    expected = [f"a [label env=staging]: {key} belongs to a version: give version with it"]
    assert refusal(operations.set_fields, records, "a", fields, STAGING) == expected


FULL = Record("a", Release("1", md5=ONE, sha256=ONE * 2), "http://r", cmd="stop", overrides=(Override(STAGING, md5_base="", tarball="http://s", mirrors=("http://t",)), Override(Prefix("x"), cmd="start"), Override(STAGING, Release("2", md5=ONE))))  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "selector", "after"),
    [
        (["md5", "sha256", "cmd"], None, Record("a", Release("1"), "http://r", overrides=FULL.overrides)),
        ([], STAGING, msgspec.structs.replace(FULL, overrides=(Override(Prefix("x"), cmd="start"),))),
        (["md5"], STAGING, msgspec.structs.replace(FULL, overrides=(Override(STAGING, tarball="http://s", mirrors=("http://t",)), Override(Prefix("x"), cmd="start"), Override(STAGING, Release("2"))))),
        (["version"], STAGING, msgspec.structs.replace(FULL, overrides=FULL.overrides[:2])),
        (["md5"], None, msgspec.structs.replace(FULL, release=Release("1", sha256=ONE * 2))),
        (["tarball"], STAGING, msgspec.structs.replace(FULL, overrides=(Override(STAGING, md5_base=""), *FULL.overrides[1:]))),
        (["cmd"], Prefix("x"), msgspec.structs.replace(FULL, overrides=FULL.overrides[::2])),
        (["version"], Prefix("x"), FULL),
        ([], None, None),
    ],
)  # fmt: skip
def test_fields_are_unset_and_an_override_that_sets_nothing_more_goes(keys, selector, after):
    assert operations.unset_fields(holding(FULL, B), "a", keys, selector) == holding(*filter(None, [after]), B)


@pytest.mark.parametrize(
    ("agent", "keys", "selector", "texts"),
    [
        ("c", [], None, ['there is no agent "c"; set its version and tarball to create it']),
        ("a", ["version", "md55"], None, ["a.md55: unknown key; did you mean md5?", "a: version cannot be unset; set another, or unset the whole agent"]),
        ("a", [], Prefix("y"), ["a [prefix y]: there is no such override; there are: [label env=staging] [prefix x] [label env=staging]"]),
        ("b", ["cmd"], Prefix("y"), ["b [prefix y]: there is no such override; there are: none"]),
    ],
)  # fmt: skip
def test_what_cannot_be_unset_is_refused(agent, keys, selector, texts):
    assert refusal(operations.unset_fields, holding(FULL, B), agent, keys, selector) == texts


def test_the_digests_of_a_version_are_unset_with_it():
    record = staged(Override(STAGING, Release("2", md5=ONE, sha256=ONE * 2)), release=A.release)
    assert operations.unset_fields(holding(record), "a", ["version"], STAGING).record("a") == A


@pytest.mark.parametrize("version", [{}, {"version": "1"}])
def test_what_is_fetched_elsewhere_is_checked_by_the_same_digests_whether_its_version_is_named_or_not(version):
    records = operations.set_fields(holding(WITH_BOTH), "a", {"tarball": "http://s"} | version, Prefix("w"))
    [desired] = resolve(records, "w-1")
    assert (desired.tarball, desired.md5, desired.sha256) == ("http://s", ONE, ONE * 2)


def test_a_promoted_version_keeps_the_digests_of_its_canary():
    records = holding(WITH_BOTH)
    for edit in (
        lambda r: operations.set_fields(r, "a", {"version": "2", "md5": OTHER, "sha256": OTHER * 2}, Prefix("w")),
        lambda r: operations.set_fields(r, "a", {"version": "2"}),
        lambda r: operations.unset_fields(r, "a", (), Prefix("w")),
    ):
        records = edit(records)
    assert records.record("a") == Record("a", Release("2", OTHER, OTHER * 2), "http://r")


# --- bans ---


def test_a_ban_is_made_renewed_and_lifted():
    records = operations.ban(operations.ban(holding(A), Ban("b", "1")), Ban("a", "2", "it crashes", "ann", 5.0))
    assert records.bans == (Ban("a", "2", "it crashes", "ann", 5.0), Ban("b", "1"))
    records = operations.ban(records, Ban("b", "1", "it leaks"))
    assert records.bans == (Ban("a", "2", "it crashes", "ann", 5.0), Ban("b", "1", "it leaks"))
    assert operations.unban(records, "a", "2").bans == (Ban("b", "1", "it leaks"),)


@pytest.mark.parametrize(
    ("ban", "texts"),
    [
        (Ban("a/b", "", "x\ny"), ["name \"a/b\" is not 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit", "version is blank", r'why "x\ny" (with U+000A LINE FEED) must be one line of printable text']),
        (Ban("a", "1", "x" * 501), ["why has 501 characters; at most 500 are kept"]),
        (Ban("a", "1", "\ud800"), [r'why "\ud800" (ends with U+D800) must be one line of printable text']),
    ],
)  # fmt: skip
def test_a_wrong_ban_is_refused(ban, texts):
    assert refusal(operations.ban, holding(A), ban) == texts


def test_what_is_not_banned_cannot_be_unbanned():
    records = holding(bans=(Ban("a", "1"), Ban("a", "2"), Ban("b", "3")))
    assert refusal(operations.unban, records, "a", "3") == ["version 3 of a is not banned; of it are: 1, 2"]
    assert refusal(operations.unban, records, "c", "3") == ["version 3 of c is not banned"]
    assert refusal(operations.unban, holding(bans=(Ban("falcon", "1"),)), "flacon", "1") == [
        "version 1 of flacon is not banned; did you mean falcon?"
    ]


BANNED = holding(
    Record("a", Release("2"), "http://r", overrides=(Override(Prefix("x"), Release("2")),)),
    B,
    bans=(Ban("a", "2", "it crashes", "ann", 5.0), Ban("b", "3")),
)
WHY_A = "version 2 is banned by ann (it crashes); give another one, or first: meta unban a 2"
WHY_B = "version 3 is banned; give another one, or first: meta unban b 3"


@pytest.mark.parametrize(
    ("edit", "arguments", "texts"),
    [
        (operations.set_fields, ("b", {"version": "3"}), [f"b: {WHY_B}"]),
        (operations.set_fields, ("a", {"version": "2"}, STAGING), [f"a [label env=staging]: {WHY_A}"]),
        (operations.put_record, (Record("b", Release("3"), "http://r", cmd="stop"),), [f"b: {WHY_B}"]),
        (operations.apply, ([Record("b", Release("3"), "http://r"), Record("a", Release("2"), "http://r", overrides=(Override(STAGING, Release("2")),))],), [f"b: {WHY_B}", f"a [label env=staging]: {WHY_A}"]),
    ],
)  # fmt: skip
def test_a_banned_version_is_refused_where_it_did_not_stand_before(edit, arguments, texts):
    assert refusal(edit, BANNED, *arguments) == texts


@pytest.mark.parametrize(
    ("edit", "arguments"),
    [
        (operations.set_fields, ("a", {"cmd": "stop"})),
        (operations.set_fields, ("a", {"version": "2"})),
        (operations.set_fields, ("a", {"cmd": "stop"}, Prefix("x"))),
        (operations.set_fields, ("b", {"version": "2"})),
        (operations.apply, (BANNED.records[::-1],)),
        (operations.unset_fields, ("a", ["version"], Prefix("x"))),
    ],
)
def test_a_banned_version_that_stands_already_is_in_nobodys_way(edit, arguments):
    assert edit(BANNED, *arguments).bans == BANNED.bans


# --- labels ---


@pytest.mark.parametrize(
    ("before", "labels", "after"),
    [
        ({}, {"env": "staging", "gpu": ""}, {"h": {"env": "staging", "gpu": ""}}),
        ({"h": {"env": "x"}}, {"env": "y"}, {"h": {"env": "y"}}),
        ({"h": {"env": "x"}, "i": {"env": "x"}}, {"env": None}, {"i": {"env": "x"}}),
        ({"h": {"env": "x"}}, {"gpu": None}, {"h": {"env": "x"}}),
        ({}, {}, {}),
        ({"h": {f"l{i}": "" for i in range(64)}}, {"l0": None, "new": ""}, {"h": {f"l{i}": "" for i in range(1, 64)} | {"new": ""}}),
    ],
)  # fmt: skip
def test_labels_are_set_and_removed(before, labels, after):
    assert operations.set_labels(holding(labels=before), "h", labels).labels == after


def test_many_hosts_get_their_labels_at_once():
    before = holding(labels={"h1": {"env": "x", "gpu": ""}, "h3": {"gpu": ""}})
    after = operations.label_hosts(before, ["h1", "h2", "h1"], {"env": "y", "gpu": None})
    assert after.labels == {"h1": {"env": "y"}, "h2": {"env": "y"}, "h3": {"gpu": ""}}
    assert before.labels["h1"] == {"env": "x", "gpu": ""}


RULE = "is not KEY or KEY=VALUE, each 1 to 63 letters, digits, '.', '_' or '-'"


@pytest.mark.parametrize(
    ("hostname", "labels", "texts"),
    [
        ("h", {"a b": "c", "": "x", "k": "v" * 64}, [f'label "a b=c" {RULE}', f'label "=x" {RULE}', f'label "k={"v" * 64}" {RULE}']),
        ("h", {"a=b": ""}, ['label "a=b": the key has no =']),
        ("h", {"a": "\ud800\n"}, [rf'label "a=\ud800\n" (with U+D800, U+000A LINE FEED) {RULE}']),
        ("<img src=x>", {}, ["hostname \"<img src=x>\" is not 1 to 253 letters, digits, '.', '_' or '-', the first a letter or digit"]),
        ("h", {f"l{i}": "" for i in range(65)}, ["h would have 65 labels, of 64; remove some first"]),
    ],
)  # fmt: skip
def test_wrong_labels_are_refused(hostname, labels, texts):
    assert refusal(operations.set_labels, holding(), hostname, labels) == texts


# --- changes, forth and back ---


def test_changes_are_told_in_one_order():
    before = holding(A, B, bans=(Ban("b", "9"),), labels={"h2": {"x": ""}})
    after = holding(
        Record("c", Release("1"), "http://r"),
        msgspec.structs.replace(B, cmd="stop"),
        bans=(Ban("a", "8"),),
        labels={"h1": {"y": ""}},
    )
    assert [(c.kind, c.name, c.before is None, c.after is None) for c in history.changes(before, after)] == [
        ("record", "a", False, True),
        ("record", "b", False, False),
        ("record", "c", True, False),
        ("order", "", False, False),
        ("ban", "a/8", True, False),
        ("ban", "b/9", False, True),
        ("labels", "h1", True, False),
        ("labels", "h2", False, True),
    ]


def test_a_change_holds_what_a_records_file_would_spell():
    [change] = history.changes(
        holding(), operations.set_fields(holding(), "a", {"version": "1", "tarball": "http://r"})
    )
    data = {"name": "a", "version": "1", "tarball": "http://r", "md5": "", "cmd": "start"}
    assert change == Change("record", "a", None, data)
    assert parse_data({"agents": [change.after]}, "body").records == (A,)


def test_the_order_is_told_only_where_it_says_something():
    for after in [
        (A, B),
        (B,),
        (A,),
        (),
        (A, B, Record("c", Release("1"), "http://r")),
        (msgspec.structs.replace(A, release=Release("2")), B),
    ]:
        kinds = [change.kind for change in history.changes(holding(A, B), holding(*after))]
        assert ("order" in kinds) == (after == (B,))  # taken back, `a` must come first again


@pytest.mark.long
@given(RECORD_SETS, RECORD_SETS)
def test_the_changes_of_a_set_replayed_over_it_give_the_set_after_it(before, after):
    revision = through_json(revision_of(before, after))
    assert replay(before, revision) == history.committed(after, revision)
    assert history.undo(after.records, revision) == before.records
    again = history.before(history.committed(after, revision), revision, before.identity)
    assert (again.revision, again.records, again.labels) == (before.revision, before.records, before.labels)
    assert {(one.agent, one.version): one for one in again.bans} == {
        (one.agent, one.version): one for one in before.bans
    }
    assert bool(revision.changes) == (before != after)


@pytest.mark.long
@given(RECORD_SETS)
def test_what_is_replayed_knows_when_each_record_was_changed_last(after):
    first = replay(RecordSet(), revision_of(RecordSet(), after))
    assert first.revision == 1
    assert first.edited == {record.name: 1 for record in after.records}
    more = operations.set_fields(first, "new", {"version": "1", "tarball": "http://r"})
    assert replay(first, revision_of(first, more)).edited == first.edited | {"new": 2}


# --- roll back ---

EDITS = st.one_of(
    st.tuples(st.just(operations.put_record), RECORDS),
    st.tuples(st.just(operations.delete_record), AGENTS),
    st.tuples(
        st.just(operations.set_fields),
        AGENTS,
        st.fixed_dictionaries({}, optional={"version": VERSIONS, "md5": MD5S, "cmd": COMMANDS, "tarball": BASES}),
        st.none() | SELECTORS,
    ),
    st.tuples(
        st.just(operations.unset_fields),
        AGENTS,
        st.lists(st.sampled_from(["version", "md5", "cmd", "tarball"]), max_size=2),
        st.none() | SELECTORS,
    ),
    st.tuples(st.just(operations.apply), RECORD_LISTS),
    st.tuples(st.just(operations.ban), BANS),
    st.tuples(st.just(operations.unban), AGENTS, VERSIONS),
    st.tuples(st.just(operations.set_labels), HOSTNAMES, LABELS),
)


def lived(wanted) -> History:
    """The history of these edits; those that are refused or change nothing leave no trace."""
    past = History()
    for edit, *arguments in wanted:
        try:
            after = edit(past.now, *arguments)
        except (EditRefused, NotThere) as e:
            assert str(e).encode()
        else:
            if after != past.now:
                past.commit(after)
    return past


@pytest.mark.long
@given(st.lists(EDITS, max_size=12))
def test_any_edits_can_be_followed_and_each_revision_can_be_had_again(wanted):
    past = lived(wanted)
    follower = RecordSet()
    for revision, state in zip(past.revisions, past.states[1:], strict=True):
        follower = replay(follower, revision)
        assert follower == state
    for number, then in enumerate(past.states):
        now = msgspec.structs.replace(past.now, bans=())
        back = operations.rollback(now, past.since(number)[::-1])
        assert back.records == then.records
        assert (back.labels, back.revision) == (now.labels, now.revision)


@pytest.mark.long
@given(st.lists(EDITS, max_size=12))
def test_no_roll_back_brings_a_banned_version_to_where_it_is_not(wanted):
    past = lived(wanted)
    banned = {(ban.agent, ban.version) for ban in past.now.bans}
    for number in range(len(past.states)):
        try:
            back = operations.rollback(past.now, past.since(number)[::-1])
        except EditRefused as e:
            assert all("is banned" in problem.text for problem in e.problems)
        else:
            stands = {(record.name, record.release.version) for record in past.now.records}
            assert not {(r.name, r.release.version) for r in back.records} & (banned - stands)


@pytest.mark.long
@given(st.lists(EDITS, max_size=8), HOSTNAMES)
def test_no_edit_lets_a_host_start_what_is_banned(wanted, hostname):
    now = lived(wanted).now
    started = {(one.name, one.version) for one in resolve(now, hostname) if one.cmd == "start"}
    assert not started & {(ban.agent, ban.version) for ban in now.bans}


@pytest.mark.long
@given(st.lists(EDITS, max_size=8))
def test_what_edits_leave_a_records_file_may_say(wanted):
    """But for digests: an applied list may be a cfg.json, whose stale digests are only warned about."""
    records = lived([edit for edit in wanted if edit[0] not in (operations.put_record, operations.apply)]).now.records
    assert parse_data({"agents": as_fields(records)}, "body").records == records


def test_a_roll_back_to_what_is_banned_by_now_is_refused():
    past = History(A)
    past.commit(operations.set_fields(past.now, "a", {"version": "2"}))
    past.commit(operations.ban(past.now, Ban("a", "1", "it leaks", "bob", 5.0)))
    assert refusal(operations.rollback, past.now, past.since(1)[::-1]) == [
        "a: version 1 is banned by bob (it leaks); give another one, or first: meta unban a 1"
    ]


def test_a_roll_back_wants_every_revision():
    past = History(A)
    for version in "234":
        past.commit(operations.set_fields(past.now, "a", {"version": version}))
    newest_first = past.since(1)[::-1]
    assert operations.rollback(past.now, newest_first).records == (A,)
    for wrong in (newest_first[1:], newest_first[::-1], newest_first[::2]):
        with pytest.raises(ValueError, match=r"revision \d given where \d was due"):
            operations.rollback(past.now, wrong)


# --- the difference, for people ---


def overridden(*overrides: Override) -> RecordSet:
    return holding(Record("a", Release("1"), "http://r", overrides=overrides))


def listing(*names: str, version: str = "2") -> Override:
    return Override(Hosts(frozenset(names)), Release(version))


X, Y = Override(Prefix("x"), Release("2")), Override(STAGING, md5_base="")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (holding(A), holding(A), []),
        (holding(), holding(A), ["new agent a: version 1, tarball http://r, cmd start"]),
        (holding(), overridden(X, Y), ["new agent a: version 1, tarball http://r, cmd start", "a [prefix x]: new: version 2", 'a [label env=staging]: new: md5 ""']),
        (holding(A, B), holding(A), ["deleted agent b (version 1)"]),
        (holding(A), holding(Record("a", Release("2", md5=ONE), "http://r")), ["a: version 1 -> 2", f'a: md5 "" -> {ONE}']),
        (holding(Record("a", Release("1", sha256=ONE * 2), "http://r")), holding(A), [f'a: sha256 {ONE * 2} -> ""']),
        (holding(A), holding(Record("a", Release("1"), "http://r", mirrors=("http://s",))), ["a: tarball http://r -> http://r http://s"]),
        (overridden(), overridden(X), ["a [prefix x]: new: version 2"]),
        (overridden(X, Y), overridden(Y), ["a [prefix x]: removed (version 2)"]),
        (overridden(Y), overridden(Override(STAGING, Release("2", md5=ONE), cmd="stop")), ["a [label env=staging]: version (not set) -> 2", f'a [label env=staging]: md5 "" -> {ONE}', "a [label env=staging]: cmd (not set) -> stop"]),
        (overridden(X, Y), overridden(Y, X), ["a: overrides in another order: [label env=staging] [prefix x]"]),
        (overridden(X), overridden(Y, X), ['a [label env=staging]: new: md5 ""', "a: overrides in another order: [label env=staging] [prefix x]"]),
        (overridden(X, X), overridden(X), ["a [prefix x]: removed (version 2)"]),
        (overridden(listing("h1", "h2")), overridden(listing("h2", "h3", "h4")), ["a [hosts h1, h2]: hosts +h3 +h4 -h1"]),
        (overridden(X, listing("h1")), overridden(X, listing(*(f"h{i}" for i in range(1, 100)))), ["a [hosts h1]: hosts +h10 +h11 +h12 +h13 +h14 +h15 +h16 +h17 +h18 +h19 and 88 more +"]),
        (overridden(listing("h1")), overridden(listing("h2")), ["a [hosts h1]: removed (version 2)", "a [hosts h2]: new: version 2"]),
        (holding(A, B), holding(B, A), ["order of agents: b, a"]),
        (holding(A, B), holding(B), ["deleted agent a (version 1)"]),
        (holding(), holding(bans=(Ban("a", "2"), Ban("a", "3", "it crashes"))), ["ban a 2", "ban a 3: it crashes"]),
        (holding(bans=(Ban("a", "2"), Ban("a", "3", "it crashes"))), holding(), ["unban a 2", "unban a 3 (was: it crashes)"]),
        (holding(bans=(Ban("a", "2"),)), holding(bans=(Ban("a", "2", "it leaks"),)), ['ban a 2: "" -> it leaks']),
        (holding(labels={"h": {"env": "x", "gpu": ""}}), holding(labels={"h": {"env": "y"}, "i": {"gpu": ""}}), ["host h: label env x -> y", 'host h: label gpu "" -> (not set)', 'host i: label gpu (not set) -> ""']),
    ],
)  # fmt: skip
def test_a_difference_is_read_line_by_line(before, after, expected):
    assert lines(before, after) == expected


@pytest.mark.long
@given(RECORD_SETS, RECORD_SETS)
def test_whatever_differs_has_a_line(before, after):
    changes = history.changes(before, after)
    assert all(line.isprintable() for line in diff.difference(changes))
    for change in changes:
        if change.kind != history.ORDER:
            assert diff.difference([change]) or only_a_date(change)


def only_a_date(change: Change) -> bool:
    return change.kind == history.BAN and change.before["why"] == change.after["why"]


# --- two people at once ---


def conflict(check, *arguments) -> Conflict:
    with pytest.raises(Conflict) as found:
        check(*arguments)
    return found.value


def test_the_second_of_two_who_edit_at_once_sees_what_the_first_did():
    past = History(A, B)
    past.commit(operations.set_fields(past.now, "a", {"version": "2"}), "ann", "the leak")
    past.commit(operations.set_fields(past.now, "b", {"version": "7"}), "cid")
    past.commit(operations.set_fields(past.now, "a", {"cmd": "stop"}, STAGING), "bob")
    found = conflict(conflicts.require, past.now, "a", 1, past.since(1))
    assert str(found) == "a changed since revision 1, now at revision 4; read it again, and repeat your edit"
    assert found.lines == [
        "revision 2 by ann: the leak",
        "  a: version 1 -> 2",
        "revision 4 by bob",
        "  a [label env=staging]: new: cmd stop",
    ]
    assert (found.name, found.expected, found.actual) == ("a", 1, 4)


def test_an_edit_of_another_agent_is_no_conflict():
    past = History(A, B)
    past.commit(operations.set_fields(past.now, "a", {"version": "2"}))
    conflicts.require(past.now, "b", 1, past.since(1))
    conflicts.require(past.now, "a", 2)
    conflicts.require(past.now, "c", 0)


def test_a_record_that_was_deleted_and_made_again_is_another_one():
    past = History(A)
    past.commit(operations.delete_record(past.now, "a"), "ann")
    gone = conflict(conflicts.require, past.now, "a", 1, past.since(1))
    assert (str(gone), gone.lines) == (
        "a changed since revision 1, now deleted; read it again, and repeat your edit",
        ["revision 2 by ann", "  deleted agent a (version 1)"],
    )
    past.commit(operations.put_record(past.now, A), "bob")
    again = conflict(conflicts.require, past.now, "a", 1, past.since(1))
    assert again.lines[2:] == ["revision 3 by bob", "  new agent a: version 1, tarball http://r, cmd start"]


def test_what_shall_be_new_must_not_be_there():
    past = History(A)
    assert (
        str(conflict(conflicts.require, past.now, "a", 0))
        == "a exists already, since revision 1; read it, and edit that"
    )


def test_all_records_together_are_in_conflict_with_any_edit_of_a_record():
    past = History(A, B)
    past.commit(operations.ban(past.now, Ban("a", "9")), "ann")
    past.commit(operations.set_labels(past.now, "h", {"env": "x"}), "ann")
    conflicts.require_all(past.now, 1, past.since(1))
    conflicts.require_all(past.now, 3)
    past.commit(operations.apply(past.now, (B, A)), "ann")
    found = conflict(conflicts.require_all, past.now, 1, past.since(1))
    assert str(found).startswith("the records changed since revision 1, now at revision 4;")
    assert found.lines == ["revision 4 by ann", "  order of agents: b, a"]


def test_all_records_together_are_in_conflict_where_nobody_knows_what_changed():
    past = History(A)
    past.commit(operations.ban(past.now, Ban("a", "9")))
    assert conflict(conflicts.require_all, past.now, 1).lines == []
    assert conflict(conflicts.require_all, past.now, 7, past.revisions).lines == []
