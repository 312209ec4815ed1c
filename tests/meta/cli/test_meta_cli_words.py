"""What the command line makes of words, files and times: small truths, without a meta."""

import os
from pathlib import Path
from typing import Annotated, get_args, get_origin

import msgspec
import pytest

from meta.api.schemas import tarballs, tokens, types
from meta.api.schemas.basics import Body
from meta.cli.arguments import fields_of, labels_of, seconds, selector_of
from meta.cli.environment import token
from meta.cli.steps import record_files
from meta.cli.steps.publishing import split
from meta.cli.views import show
from meta.errors import Misconfigured
from meta.queries import representations
from meta.records.model import Record, Release
from meta.records.selectors import Glob, Hosts, Label, Prefix

TOKEN = "ou_o_" + "x" * 43
RECORDS = (Record("a", Release("1.10"), "http://r/a"),)


def test_fields_of_a_record():
    assert fields_of(["version=1.10", "md5=", "tarball=http://r/a"]) == {
        "version": "1.10",
        "md5": "",
        "tarball": "http://r/a",
    }
    assert fields_of(["tarball=http://r/a", "tarball=http://m/a"]) == {"tarball": ["http://r/a", "http://m/a"]}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["1.0.1"], '"1.0.1" is no FIELD=VALUE; fields are version, tarball'),
        (["versio=1"], '"versio" is no field; did you mean version?'),
        (["name=x"], '"name" is no field; fields are version, tarball'),
        (["cmd=stop", "cmd=start"], "cmd is given twice"),
    ],
)
def test_what_are_no_fields(words, why):
    with pytest.raises(Misconfigured, match=why.replace("?", r"\?")):
        fields_of(words)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("prefix:web-", Prefix("web-")),
        ("glob:*-db-*", Glob("*-db-*")),
        ("hosts:a,b,c", Hosts(frozenset("abc"))),
        ("label:env=staging", Label("env=staging")),
        ("label:env", Label("env")),
    ],
)
def test_selectors(text, selector):
    assert selector_of(text) == selector


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("web-", "write prefix:web-, glob:web-, hosts:web- or label:KEY=VALUE"),
        ("perfix:web-", '"perfix" selects nothing; there are prefix:, glob:, hosts:, label:'),
        ("prefix:", 'nothing follows "prefix:"; every host is glob:'),
        ("hosts:a b", "hostname"),
    ],
)
def test_what_are_no_selectors(text, why):
    with pytest.raises(Misconfigured, match=why):
        selector_of(text)


def test_labels():
    assert labels_of(["env=staging", "rack-", "note="]) == ({"env": "staging", "note": ""}, ["rack"])


@pytest.mark.parametrize("words", [["env"], ["=x"], ["env=a", "env-"]])
def test_what_are_no_labels(words):
    with pytest.raises(Misconfigured):
        labels_of(words)


def test_durations():
    assert [seconds(text) for text in ("90s", "15min", "12h", "30d")] == [90, 900, 43200, 2592000]
    for text in ("", "30", "d", "-1d", "0s", "1.5h"):
        with pytest.raises(Misconfigured, match="is no duration like 30d"):
            seconds(text)


@pytest.mark.parametrize(
    ("file", "known", "found"),
    [
        ("my-agent-1.0.1.tar.gz", [], ("my-agent", "1.0.1")),
        ("my-agent-1.0.1-rc1.tar.gz", [], ("my-agent", "1.0.1-rc1")),
        ("agent-2-1.0.tar.gz", ["agent-2"], ("agent-2", "1.0")),
        ("agent-2-1.0.tar.gz", ["agent", "agent-2"], ("agent-2", "1.0")),
        ("agent-v1.tar.gz", ["other"], ("agent", "v1")),
    ],
)
def test_name_and_version_of_a_tarball(file, known, found):
    assert split(file, known) == found


@pytest.mark.parametrize("file", ["agent.tar.gz", "agent-1.0.tgz", "-1.0.tar.gz", "agent-.tar.gz", "a b-1.0.tar.gz"])
def test_files_that_no_host_would_ask_for(file):
    with pytest.raises(Misconfigured, match="must be named NAME-VERSION"):
        split(file, [])


def test_a_tarball_of_another_agent_is_not_the_named_one():
    with pytest.raises(Misconfigured, match="must be named mine-VERSION"):
        split("other-1.0.tar.gz", ["mine"], must=True)


def test_how_long_ago():
    told = [show.ago(s) for s in (0, 1, 59, 61, 7200, 86400, 200000, 4e7, -2592000 - 5)]
    assert told == [
        "now",
        "1 s ago",
        "59 s ago",
        "1 min ago",
        "2 h ago",
        "1 day ago",
        "2 days ago",
        "1 year ago",
        "in 30 days",
    ]


def test_foreign_text_cannot_write_to_the_terminal(capsys):
    show.table(["name"], [["\x1b[31mred\nsecond [bold]line"]])
    assert capsys.readouterr().out == "NAME\n\\u001b[31mred second [bold]line\n"


def test_columns_of_a_pipe_can_be_counted(capsys):
    show.table(["host", "address", "note"], [["a", "", "x"], ["long", "10.0.0.1", ""]])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["HOST", "ADDRESS", "NOTE"],
        ["a", "-", "x"],
        ["long", "10.0.0.1", "-"],
    ]


# --- the file of all records ---


def test_a_file_says_what_it_is_based_on(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text(record_files.text(RECORDS, 41))
    assert record_files.read(file) == record_files.File(RECORDS, 41)
    file.write_text("# ours\n" + file.read_text())
    assert record_files.read(file).base == 41
    file.write_text("agents: []  # revision: 3\n# revision: 4\n")
    assert record_files.read(file) == record_files.File((), None)


def test_only_the_line_of_the_revision_is_brought_up_to_date(tmp_path):
    file, link = tmp_path / "r.yaml", tmp_path / "link.yaml"
    file.write_text("# mine\n# revision: 41\n# - b\r\nagents: []  # revision: 41\n", newline="")
    file.chmod(0o640)
    link.symlink_to(file)
    record_files.rebase(link, 42)
    assert file.read_bytes() == b"# mine\n# revision: 42\n# - b\r\nagents: []  # revision: 41\n"
    assert (file.stat().st_mode & 0o777, link.is_symlink(), sorted(os.listdir(tmp_path))) == (
        0o640,
        True,
        ["link.yaml", "r.yaml"],
    )


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(Misconfigured, match="cannot be written: No such file or directory"):
        record_files.write(tmp_path / "none" / "r.yaml", "")


# --- where the token is ---


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("META_TOKEN", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".config/meta").mkdir(parents=True)
    return tmp_path


def write(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_token_is_in_the_variable_or_the_usual_file_or_a_named_one(home, monkeypatch):
    assert token(None) == ""
    write(home / ".config/meta/token", TOKEN + "\n")
    assert token(None) == TOKEN
    assert token(write(home / "other", "abc\n")) == "abc"
    monkeypatch.setenv("META_TOKEN", "xyz\n")
    assert token(None) == "xyz"
    assert token(home / "other") == "abc"


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        (TOKEN, 0o644, "can be read by others: chmod 600"),
        (TOKEN, 0o640, "can be read by others: chmod 600"),
        ("", 0o600, "holds no token"),
        ("two\nlines\n", 0o600, "holds no token"),
        ("not ascii: \xe9", 0o600, "holds no token"),
        ("x" * 1000, 0o600, "holds no token"),
    ],
)
def test_files_that_are_not_taken_for_a_token(home, text, mode, why):
    with pytest.raises(Misconfigured, match=why):
        token(write(home / "t", text, mode))


def test_a_named_file_must_be_there(home):
    with pytest.raises(Misconfigured, match="does not exist"):
        token(home / "none")


def test_times_for_programs_are_rfc_3339_and_null_for_never():
    token = {"id": 7, "created": 1_800_000_000.25, "expires": 0.0, "items": [{"at": 5, "labels": {"at": "noon"}}]}
    assert show.for_programs(token) == {
        "id": 7,
        "created": "2027-01-15T08:00:00.250Z",
        "expires": None,
        "items": [{"at": "1970-01-01T00:00:05Z", "labels": {"at": "noon"}}],
    }
    assert show.for_programs({"at": 1e300}) == {"at": None}


def plain(kind):
    """The type without its description."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def test_every_time_in_a_body_of_the_api_is_shown_as_one():
    kinds = [
        kind
        for module in (types, tarballs, tokens, representations)
        for kind in vars(module).values()
        if isinstance(kind, type)
    ]
    structs = [kind for kind in kinds if issubclass(kind, msgspec.Struct) and not issubclass(kind, Body)]
    floats = {
        field.encode_name for kind in structs for field in msgspec.structs.fields(kind) if plain(field.type) is float
    }
    spans = {"patience", "askedWithin"}  # seconds
    assert floats > spans
    assert floats - spans <= show._TIMES
