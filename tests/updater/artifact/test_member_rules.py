"""Names and targets of links, one at a time, and in each other's company."""

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updater.artifact.member_rules import Claims, name_problem, target_problem
from updater.artifact.tar_reader import DIRECTORY, FILE, HARD_LINK, PROGRAM, SYMLINK, Limits, Member
from updater.errors import Refused

LIMITS = Limits()


USUAL = ["x", "a/b", "a b", ".a", "..a", "a..b", "-", "~", "日本", "e\u0301", "x" * 255, "a/" * 19 + "a"]
ODD = ["x.", "a./b", "...", "a\\b", "foo\\x2dbar.service", "..\\x", "C:\\x", ".Version"]


@pytest.mark.parametrize("name", [*USUAL, *ODD])
def test_a_usual_name_is_fine(name: str) -> None:
    assert name_problem(name, LIMITS) == ""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        ("/x", "is absolute"),
        (".", 'has a part "."'),
        ("a/..", 'has a part ".."'),
        ("a//b", 'has a part ""'),
        ("a/", 'has a part ""'),
        ("a\0b", "has characters that cannot be printed"),
        ("a\ud800", "has characters that cannot be printed"),
        ("x ", "has a part that begins or ends with a blank"),
        (" x", "has a part that begins or ends with a blank"),
        ("x /y", "has a part that begins or ends with a blank"),
        ("x" * 256, "has a part of more than 255 bytes"),
        ("é" * 128, "has a part of more than 255 bytes"),
        ("a/" * 20 + "a", "is more than 20 directories deep"),
        ("é" * 513, "is longer than 1024 bytes"),
    ],
)
def test_a_bad_name_is_told_why(name: str, problem: str) -> None:
    assert name_problem(name, LIMITS) == problem


@pytest.mark.parametrize(
    ("name", "target", "problem"),
    [
        ("s", "x", ""),
        ("s", "x/y", ""),
        ("s", "./x", ""),
        ("s", "x/", ""),
        ("s", ".", ""),
        ("d/s", "..", ""),
        ("d/s", "../x", ""),
        ("d/s", "./.././x", ""),
        ("d/e/s", "../../x", ""),
        ("s", "..x/...", ""),
        ("s", "foo\\x2dbar.service", ""),
        ("s", "..\\x", ""),
        ("s", "..", "leads out of the archive"),
        ("d/s", "../..", "leads out of the archive"),
        ("d/s", "..//./../x", "leads out of the archive"),
        ("s", "x/..", 'has a ".." after a name'),
        ("d/s", "../x/../y", 'has a ".." after a name'),
        ("s", "", "is empty"),
        ("s", "/", "is absolute"),
        ("s", "a\nb", "has characters that cannot be printed"),
        ("s", "a/" * 513, "is longer than 1024 bytes"),
    ],
)
def test_a_symlink_stays_inside(name: str, target: str, problem: str) -> None:
    assert target_problem(name, target, LIMITS) == problem


LINKS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d/a", "d/b", "d/e/a", "d/e/b"]),
    st.lists(st.sampled_from(["..", ".", "", "a", "b", "c", "d", "e", "x"]), min_size=1, max_size=6).map("/".join),
)


@given(LINKS)
def test_no_set_of_symlinks_that_is_let_in_leads_out(tmp_path_factory, links: dict[str, str]) -> None:
    """The proof by the kernel: make all that are let in, and ask where they lead. Whatever they name exists outside, too."""
    top = tmp_path_factory.mktemp("links")
    for directory in ("in/d/e", *"abcdex"):
        (top / directory).mkdir(parents=True)
    for name, target in links.items():
        if not target_problem(name, target, LIMITS):
            (top / "in" / name).symlink_to(target)
    for name in links:
        with suppress(OSError):  # it leads nowhere, or in a circle
            fd = os.open(top / "in" / name, os.O_PATH)
            led = os.readlink(f"/proc/self/fd/{fd}")
            os.close(fd)
            assert led == f"{top}/in" or led.startswith(f"{top}/in/")


@pytest.mark.parametrize(("one", "other"), [("Makefile", "makefile"), ("é", "e\u0301"), ("ß", "SS"), ("x", "x.")])
def test_names_that_linux_tells_apart_are_two(one: str, other: str) -> None:
    assert _claims((one, FILE), (other, FILE)) == {one: FILE, other: FILE}


@pytest.mark.parametrize("name", [".version", ".installed", "..version.new", "..installed.new"])
@pytest.mark.parametrize("kind", [FILE, DIRECTORY])
def test_what_the_updater_writes_at_the_top_is_no_members_name(name: str, kind: str) -> None:
    with pytest.raises(Refused, match="keeps for itself"):
        _claims((name, kind))
    assert _claims((f"etc/{name}", kind))["etc"] == DIRECTORY


def _claims(*members: tuple[str, str] | tuple[str, str, str]) -> dict[str, str]:
    claims = Claims(LIMITS)
    for name, kind, *target in members:
        claims.claim(Member(name, kind, 0, None, *(target or [""])))
    return claims.kinds


def test_directories_are_claimed_by_what_is_in_them() -> None:
    assert _claims(("a/b/c", FILE)) == {"a": DIRECTORY, "a/b": DIRECTORY, "a/b/c": FILE}


def test_a_hard_link_is_of_its_targets_kind() -> None:
    assert _claims(("a", PROGRAM), ("b", HARD_LINK, "./a"), ("c", HARD_LINK, "b")) == dict.fromkeys("abc", PROGRAM)


KINDS = [(FILE, ""), (PROGRAM, ""), (SYMLINK, "y"), (HARD_LINK, "there")]


@pytest.mark.parametrize("second", [*KINDS, (DIRECTORY, "")])
@pytest.mark.parametrize("first", [*KINDS, (DIRECTORY, "")])
def test_a_path_is_claimed_once(first: tuple[str, str], second: tuple[str, str]) -> None:
    members = [("there", FILE), ("x", *first), ("x", *second)]
    if first[0] == second[0] == DIRECTORY:
        assert _claims(*members)["x"] == DIRECTORY
    else:
        with pytest.raises(Refused, match='member "x" is there twice'):
            _claims(*members)


@pytest.mark.parametrize("kind", [FILE, PROGRAM, SYMLINK])
def test_nothing_lies_below_what_is_no_directory(kind: str) -> None:
    for below in ("x/y", "x/y/z"):
        with pytest.raises(Refused, match=f'member "{below}" lies below the {kind} "x"'):
            _claims(("x", kind, "t"), (below, FILE))
