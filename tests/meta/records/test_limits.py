"""Every limit of a field is in one module and in the documents' tables, and what it says is so."""

import importlib
import json
import pkgutil
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.meta_api import World, record
from meta.access.tokens import bearer
from meta.api import schemas
from meta.api.schemas.basics import Body
from meta.cli.environment import token
from meta.errors import Misconfigured, RecordsError, Unauthorised
from meta.records.files.load import parse, parse_data
from meta.records.model import CHANGEABLE
from meta.records.selectors import KINDS
from meta.records.validate import attempt_problem, value_problem
from updater.wire.heartbeat import Desired, Outcome, RealAgent, Report
from updater.wire.limits import (
    MAX_ATTEMPT,
    MAX_BODY,
    MAX_HOSTNAME,
    MAX_MIRRORS,
    MAX_TOKEN,
    MAX_URL_PART,
    OF_META,
    ROOM,
    TABLE,
    reply_problem,
)
from updater.wire.urls import base_problem

DOCUMENT = (Path(__file__).parents[3] / "docs" / "operating-meta.md").read_text()
RECORDS_OWN = {*CHANGEABLE, *KINDS}  # texts that `value_problem` and the kinds of selectors check


def said(key):
    """The numbers that the tables have for a field."""
    return {limit.number for limit in (*TABLE, *OF_META) if key in limit.fields}


@pytest.mark.parametrize("table", [TABLE, OF_META])
def test_the_documents_have_the_tables_of_limits_that_both_sides_use(table):
    assert "\n".join(f"| {limit.what} | {limit.most} |" for limit in table) in DOCUMENT
    assert reply_problem(MAX_BODY - ROOM) == ""
    assert f"{MAX_BODY - ROOM:,} bytes" in DOCUMENT


@pytest.mark.parametrize("limit", [*TABLE, *OF_META], ids=lambda limit: limit.what)
def test_a_row_says_its_number(limit):
    assert re.search(rf"\b{limit.number:,}\b", limit.most)


# --- texts of a record, in files, imports and edits ---

LONG = {
    "name": lambda n: "a" * n,
    "version": lambda n: "1" * n,
    "tarball": lambda n: "http://h/".ljust(n, "x"),
    "md5": lambda n: "http://h/".ljust(n, "x"),
    "sha256": lambda n: "a" * n,
    "runUser": lambda n: "u" * n,
    "workDir": lambda n: "/".ljust(n, "d"),
    "prefix": lambda n: "p" * n,
    "glob": lambda n: "*".ljust(n, "g"),
    "hosts": lambda n: "h" * n,
}
PATTERNS = OF_META[:1]
CHOSEN = {"cmd", "leftovers", "unknownStatus"}  # one of a few words


def problem_of(key, text):
    return KINDS[key].problem(text) if key in KINDS else value_problem(key, text)


def test_every_text_of_a_record_is_tried_here():
    assert {*LONG, *CHOSEN, "attempt", "label"} == RECORDS_OWN | {"name"}


@given(st.sampled_from(sorted(LONG)), st.data())
def test_a_text_is_taken_up_to_its_limit_and_a_longer_one_is_refused_by_that_number(key, data):
    most = max(limit.number for limit in (PATTERNS if key in ("prefix", "glob") else TABLE) if key in limit.fields)
    length = data.draw(st.integers(most - 20, most) | st.integers(most + 1, most + 5000), "length")
    text = LONG[key](length)
    if key == "sha256":
        assert (problem_of(key, text) == "") == (length == most)
    elif length <= most:
        assert problem_of(key, text) == ""
    else:
        assert re.search(rf"\b{most:,}\b", problem_of(key, text))
        assert not re.search("is not an absolute|fits no host|is not an http", problem_of(key, text))


@given(st.integers(1, 200), st.booleans())
def test_each_side_of_a_label_is_as_long_as_said(length, is_key):
    [most] = [limit.number for limit in TABLE if "label" in limit.fields]
    text = f"{'k' * length}=v" if is_key else f"k={'v' * length}"
    problem = KINDS["label"].problem(text)
    assert (problem == "") == (length <= most)
    assert not problem or str(most) in problem


@given(st.integers(MAX_ATTEMPT - 5, MAX_ATTEMPT + 5))
def test_an_attempt_is_as_high_as_said(number):
    assert (attempt_problem(str(number)) == "") == (number <= MAX_ATTEMPT)


@given(st.integers(1, MAX_MIRRORS + 5))
def test_a_list_of_bases_is_as_long_as_said(count):
    bases = [f"http://h{number}/" for number in range(count)]
    if count <= MAX_MIRRORS:
        parse_data({"agents": [record("a") | {"tarball": bases}]}, "x")
    else:
        with pytest.raises(RecordsError, match=f"1 to {MAX_MIRRORS}"):
            parse_data({"agents": [record("a") | {"tarball": bases}]}, "x")


@given(st.lists(st.integers(1, 80), min_size=1, max_size=8), st.booleans())
def test_the_host_of_a_url_is_as_long_as_said(lengths, dotted):
    host = ".".join("h" * length for length in lengths)
    problem = base_problem("tarball", f"http://{host}{'.' * dotted}:80/x")
    longest = max(lengths)
    if len(host) > MAX_HOSTNAME:
        assert problem.endswith(f" has a host of {len(host)} characters, of {MAX_HOSTNAME} at most")
    elif longest > MAX_URL_PART:
        assert problem.endswith(f" has a host with a part of {longest} characters, of {MAX_URL_PART} at most")
    else:
        assert problem == ""


def test_ops_metas_file_is_told_the_limits_too():
    default = {"name": "a", "version": "1", "tarball": "http://h/", "md5": "", "cmd": "start"}
    other = {"prefix": "p" * 254, "version": "v" * 65, "tarball": f"http://{'h' * 64}/"}
    with pytest.raises(RecordsError) as e:
        parse(json.dumps({"agents": [{"default": default, "others": [other]}]}), "cfg.json")
    assert "1 to 64 letters" in str(e.value)
    assert "a part of 64 characters, of 63 at most" in str(e.value)
    alone = {"prefix": "p" * 254, "cmd": "stop"}
    read = parse(json.dumps({"agents": [{"default": default, "others": [alone]}]}), "cfg.json")
    assert "prefix has 254 characters, of 253 at most" in str(read.warnings)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("workDir", f"/{'d' * 255}", "workDir has 256 characters, of 255 at most: "),
        ("runUser", "u" * 33, "is not 1 to 32 letters"),
        ("tarball", f"http://{'h' * 64}/", "has a host with a part of 64 characters, of 63 at most"),
    ],
)
def test_an_edit_is_told_the_limit(tmp_path, key, value, words):
    world = World(tmp_path)
    try:
        world.call("PUT", "records/a", headers={"If-None-Match": "*"}, json=record("a"))
        answer = world.call("PATCH", "records/a", headers={"If-Match": "*"}, json={"set": {key: value}})
        assert (answer.status_code, words in answer.text) == (400, True), answer.text
    finally:
        world.close()


@pytest.mark.parametrize("length", [MAX_TOKEN, MAX_TOKEN + 1])
def test_a_token_that_is_too_long_is_told_so_before_it_is_sent_and_by_meta(monkeypatch, length):
    monkeypatch.setenv("META_TOKEN", "x" * length)
    if length <= MAX_TOKEN:
        assert token(None) == "x" * length == bearer(f"Bearer {'x' * length}")
    else:
        with pytest.raises(Misconfigured, match=f"of {MAX_TOKEN} characters at most$"):
            token(None)
        with pytest.raises(Unauthorised, match=r"^the Authorization header has 513 characters, of 512 at most$"):
            bearer(f"Bearer {'x' * 506}")


# --- every field of reports, replies, queries and bodies ---


def structs():
    for found in pkgutil.iter_modules(schemas.__path__):
        module = importlib.import_module(f"{schemas.__name__}.{found.name}")
        for one in vars(module).values():
            if isinstance(one, type) and issubclass(one, Body) and one.__module__ == module.__name__:
                yield one
    yield from (Report, RealAgent, Outcome, Desired)


def numbers(kind):
    """The limits of a type, and None for a text or a list without one."""
    if isinstance(kind, msgspec.inspect.UnionType):
        for one in kind.types:
            yield from numbers(one)
    elif isinstance(kind, msgspec.inspect.StrType):
        lengths = re.findall(r"\{(?:\d+,)?(\d+)\}", kind.pattern or "")
        first = 1 if kind.pattern and re.match(r"\^\[[^]]*\]\[", kind.pattern) else 0
        yield from [int(length) + first for length in lengths] or [kind.max_length]
    elif isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        yield kind.le
    elif isinstance(kind, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
        yield kind.max_length
        if not isinstance(kind.item_type, msgspec.inspect.StructType):
            yield from numbers(kind.item_type)
    elif isinstance(kind, msgspec.inspect.DictType):
        yield from numbers(kind.key_type)
        yield from numbers(kind.value_type)


FIELDS = [
    (one, field.encode_name, number)
    for one in structs()
    for field in msgspec.inspect.type_info(one).fields
    for number in numbers(field.type)
]


UNLIMITED = RECORDS_OWN | {"labels", "set", "remove", "unset", "files", "agents", "overrides", "selectors"}


@pytest.mark.parametrize(
    ("struct", "key", "number"), FIELDS, ids=[f"{struct.__name__}.{key}" for struct, key, _ in FIELDS]
)
def test_the_limit_of_every_field_is_in_a_table(struct, key, number):
    """UNLIMITED: what a record's checks, or those of the request as a whole, look at. Texts of a report are cut to fit."""
    if number is None:
        assert key in UNLIMITED or not issubclass(struct, Body)
    elif number != 1 << 62:  # a time in a report
        assert number in said(key)


def test_the_bodies_were_found():
    assert len({struct for struct, _, _ in FIELDS}) > 15
