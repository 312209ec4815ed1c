"""What is wrong with bytes from elsewhere is said in our own words, whatever those of the library are."""

from enum import Enum
from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from updater.wire.decode_problems import in_words, problem


class Way(Enum):
    OUT = "out"


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    port: Annotated[int, Meta(ge=1, le=65535)] = 1
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    name: Annotated[str, Meta(min_length=2, max_length=4, pattern="^[a-z]+$")] = "ab"
    names: Annotated[list[str], Meta(min_length=1, max_length=2)] = msgspec.field(default_factory=lambda: ["a"])
    labels: Annotated[dict[Annotated[str, Meta(max_length=3)], str | None], Meta(max_length=1)] = {}
    way: Way = Way.OUT
    kind: Literal["a", "b"] = "a"


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: Inner
    others: list[Inner] = []


KINDS = {
    '{"inner": {"port": "1"}}': "inner.port: must be a whole number, not text",
    '{"inner": {"port": 1.5}}': "inner.port: must be a whole number, not a number",
    '{"inner": {"port": 0}}': "inner.port: must be at least 1",
    '{"inner": {"port": 65536}}': "inner.port: must be at most 65535",
    '{"inner": {"port": true}}': "inner.port: must be a whole number, not true or false",
    '{"inner": {"share": 0}}': "inner.share: must be more than 0",
    '{"inner": {"share": 1}}': "inner.share: must be less than 1",
    '{"inner": {"share": 1e999}}': "inner.share: is too large",
    '{"inner": {"name": "a"}}': "inner.name: must have at least 2 characters",
    '{"inner": {"name": "abcde"}}': "inner.name: must have at most 4 characters",
    '{"inner": {"name": "AB"}}': "inner.name: is not of the form ^[a-z]+$",
    '{"inner": {"name": null}}': "inner.name: must be text, not null",
    '{"inner": {"names": []}}': "inner.names: must have at least 1 entry",
    '{"inner": {"names": ["a", "b", "c"]}}': "inner.names: must have at most 2 entries",
    '{"inner": {"names": {}}}': "inner.names: must be a list, not an object",
    '{"inner": {"names": ["a", 1]}}': "inner.names[1]: must be text, not a whole number",
    '{"inner": {"labels": {"a": 1}}}': "inner.labels[...]: must be text or null, not a whole number",
    '{"inner": {"labels": {"abcd": "x"}}}': "inner.labels: a key must have at most 3 characters",
    '{"inner": {"labels": {"a": "", "b": ""}}}': "inner.labels: must have at most 1 entry",
    '{"inner": {"way": "up"}}': 'inner.way: "up" is none of its values',
    '{"inner": {"kind": "c"}}': 'inner.kind: "c" is none of its values',
    '{"inner": {"prot": 1}}': "inner.prot: unknown key",
    '{"others": []}': "inner: is missing",
    '{"inner": {}, "others": [{}, {"x": 1}]}': "others[1].x: unknown key",
    "[]": "must be an object, not a list",
    "{": "is not JSON: it ends too early",
    "": "is not JSON: it ends too early",
    '{"inner": }': "is not JSON at byte 10",
    '{"inner": {},}': "is not JSON at byte 13",
    '{"inner": {}} x': "is not JSON at byte 15",
}


@pytest.mark.parametrize("text", KINDS)
def test_each_kind_of_error_is_said_in_our_own_words(text):
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(text, type=Outer)
    assert in_words(caught.value) == KINDS[text]


def test_bytes_that_are_no_text_and_deep_nesting_are_errors_of_the_whole():
    with pytest.raises((msgspec.DecodeError, UnicodeError)) as caught:
        msgspec.json.decode(b'{"inner": {"name": "\xff"}}', type=Outer)
    assert problem(caught.value)[0] == ""
    with pytest.raises(RecursionError) as deep:
        msgspec.json.decode("[" * 100_000)
    assert in_words(deep.value) == "is nested too deep"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Field `x` was not wanted - at `$.a.b`", "a.b: is not what it must be"),
        ("Not this", "is not what it must be"),
        ("Expected `tuple`, got `str` - at `$`", "must be something else, not text"),
    ],
)
def test_words_of_a_newer_library_are_not_passed_on(text, said):
    assert in_words(msgspec.ValidationError(text)) == said


def test_what_a_peer_wrote_is_one_line_of_it_at_most():
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(msgspec.json.encode({"inner": {}, "a\n\x1b`b" * 99: 1}), type=Outer)
    assert in_words(caught.value).isprintable()
    assert len(in_words(caught.value)) < 250


def test_a_character_that_is_no_json_is_named_where_the_bytes_are_at_hand():
    body = '{"inner":\xa0{}}'.encode()
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(body, type=Outer)
    assert in_words(caught.value, body) == "is not JSON at byte 9: there is U+00A0 NO-BREAK SPACE"
