"""Archives with members that must be refused: name -> (how to make it, a part of the refusal).

Those of published attacks carry their number; where an attack has several steps, the refusal is that of the first one.
"""

from collections.abc import Callable, Iterator

from helpers.tarbytes import (
    CONTROL,
    GNU,
    base256,
    directory,
    file,
    gz,
    hard_link,
    header,
    long_name,
    pax,
    pax_path,
    record,
    symlink,
    tar,
    tgz,
)

Hostile = dict[str, tuple[Callable[[], bytes], str]]


def _named(name: bytes | str, refusal: str) -> tuple[Callable[[], bytes], str]:
    return lambda: tgz(file(name, b"evil")), refusal


def holds(refusal: str, *members: bytes) -> tuple[Callable[[], bytes], str]:
    """An archive with a good control and these members."""
    return lambda: tgz(*members), refusal


def _links(name: bytes | str, target: bytes | str, refusal: str) -> tuple[Callable[[], bytes], str]:
    return lambda: tgz(symlink(name, target), file("after")), refusal


def _chain(part: str) -> Iterator[bytes]:
    """The published chain: a real path so long that realpath() gives up, a short one through symlinks, a link out at its
    end, a hard link through that, and a file in the hard link's place."""
    path = ""
    for letter in "abcdefghijklmnop":
        yield pax_path(path + part) + directory("d")
        yield pax(record("path", path + letter), record("linkpath", part)) + symlink("s", "")
        path += part + "/"
    yield pax_path("a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/" + "l" * 254) + symlink("s", "../" * 16)
    yield pax(record("linkpath", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/" + "l" * 254 + "/../../..")) + symlink("escape", "x")
    yield hard_link("flag", "escape/flag") + file("flag", b"evil")


NAMES: Hostile = {
    "dotdot": _named("../flag", 'has a part ".."'),
    "dotdot below": _named("a/../../flag", 'has a part ".."'),
    "dotdot that comes back, CVE-2026-19672": _named("../new/../into/f", 'has a part ".."'),
    "dotdot at the end": holds('has a part ".."', directory("a/..")),
    "dotdot alone": holds('has a part ".."', directory("..")),
    "dotdot in PAX": holds('has a part ".."', pax_path("../flag"), file("flag")),
    "dotdot in a GNU long name": holds('has a part ".."', long_name("../flag"), file("flag", magic=GNU)),
    "dotdot in the prefix": holds('has a part ".."', file("flag", prefix=b"..")),
    "absolute": _named("/tmp/flag", "is absolute"),
    "absolute twice": _named("//tmp/flag", "is absolute"),
    "absolute in PAX": holds("is absolute", pax_path("/tmp/flag"), file("flag")),
    "absolute in a GNU long name": holds("is absolute", long_name("/tmp/flag"), file("flag", magic=GNU)),
    "absolute in the prefix": holds("is absolute", file("flag", prefix=b"/tmp")),
    "absolute after ./": _named(".//tmp/flag", "is absolute"),
    "absolute directory": holds("has an empty name", directory("/")),
    "dot parts": _named("./././x", 'has a part "."'),
    "dot part inside": _named("a/./x", 'has a part "."'),
    "no part": _named("a//x", 'has a part ""'),
    "top with two slashes": holds("has an empty name", directory(".//")),
    "two slashes after a directory": holds('has a part ""', directory("a//")),
    "empty": _named("", "has an empty name"),
    "empty directory": holds("has an empty name", directory("")),
    "empty in PAX": holds("has an empty name", pax_path(""), file("x")),
    "empty GNU long name": holds("has an empty name", long_name(""), file("x", magic=GNU)),
    "file called dot": _named(".", 'has a part "."'),
    "file called dot slash": _named("./", "a directory's name"),
    "file with a slash at its end": _named("x/", "a directory's name"),
    "newline": _named("a\nINFO all is well", "cannot be printed"),
    "tab": _named("a\tb", "cannot be printed"),
    "escape": _named("a\x1b[2J", "cannot be printed"),
    "delete": _named("a\x7f", "cannot be printed"),
    "C1 control": _named("a\x9b2J", "cannot be printed"),
    "right-to-left override": _named("gpj.\u202eexe", "cannot be printed"),
    "blank without width": _named("con\u200btrol", "cannot be printed"),
    "line separator": _named("a\u2028b", "cannot be printed"),
    "blank that does not break": _named("a\u00a0b", "cannot be printed"),
    "byte order mark": _named("\ufeffcontrol", "cannot be printed"),
    "private use": _named("a\ue000", "cannot be printed"),
    "not UTF-8": _named(b"caf\xe9", "is not UTF-8"),
    "overlong UTF-8": _named(b"a\xc0\xafb", "is not UTF-8"),
    "surrogate": _named(b"a\xed\xa0\x80", "is not UTF-8"),
    "not UTF-8 in PAX": holds("is not UTF-8", pax_path(b"caf\xe9"), file("x")),
    "NUL in PAX": holds("cannot be printed", pax_path("good\0../../evil"), file("x")),
    "NUL in a GNU long name": holds("cannot be printed", long_name("good\0evil"), file("x", magic=GNU)),
    "NUL in the header": _named(b"good\0evil", "bytes where there should be none"),
    "blank at the end": _named("control ", '"control " has a part that begins or ends with a blank'),
    "blank at the start": _named(" x", '" x" has a part that begins or ends with a blank'),
    "blank at the start of a part": _named("a/ x", "begins or ends with a blank"),
    "part of 256 bytes": holds("more than 255 bytes", pax_path("x" * 256), file("x")),
    "part of 256 bytes in 128 letters": holds("more than 255 bytes", pax_path("ö" * 128), file("x")),
    "part of 256 bytes, GNU": holds("more than 255 bytes", long_name("x" * 256), file("x", magic=GNU)),
    "21 deep": _named("/".join("a" * 21), "more than 20 directories deep"),
    "10,000 deep": holds("longer than 1024 bytes", pax_path("a/" * 10_000 + "x"), file("x")),
    "1,025 bytes": holds("longer than 1024 bytes", pax_path(f"{'a' * 204}/" * 5 + "x"), file("x")),
    "the updater's own, .version": _named(".version", "keeps for itself"),
    "the updater's own, ./.version": _named("./.version", "keeps for itself"),
    "the updater's own, a directory": holds("keeps for itself", directory(".version/")),
    "the updater's own, implied": _named(".version/x", "keeps for itself"),
    "the updater's own, a symlink": _links(".version", "control", "keeps for itself"),
    "the updater's own, a hard link": holds("keeps for itself", hard_link(".version", "control")),
    "the updater's own, .installed": _named(".installed", "keeps for itself"),
    "the updater's own, half written": holds("keeps for itself", directory("..installed.new/")),
}

DUPLICATES: Hostile = {
    "control twice, the second evil": holds("is there twice", file("control", b"evil", 0o755)),
    "control twice, the same": holds("is there twice", CONTROL),
    "file, then below it": holds("below the file", file("a"), file("a/b")),
    "program, then below it": _named("control/b", "below the program"),
    "file, then far below it": holds("below the file", file("a"), file("a/b/c/d")),
    "implied directory, then file": holds("is there twice", file("a/b"), file("a")),
    "directory, then file": holds("is there twice", directory("a/"), file("a")),
    "file, then directory": holds("is there twice", file("a"), directory("a/")),
    "file with ./ and without": holds("is there twice", file("a"), file("./a")),
    "file in PAX and without": holds("is there twice", file("a"), pax_path("a"), file("b")),
}

SYMLINKS: Hostile = {
    "symlink out, then through it": holds("is absolute", symlink("s", "/etc"), file("s/x")),
    "symlink up, then through it": holds("leads out", symlink("s", "../.."), file("s/x")),
    "symlink inside, then through it": holds("below the symlink", directory("d"), symlink("s", "d"), file("s/x")),
    "symlink inside, then far below it": holds("below the symlink", symlink("s", "d"), file("s/x/y/z")),
    "symlink to .., one too many": _links("a/s", "../../x", "leads out"),
    "symlink to .. at the top": _links("s", "..", "leads out"),
    "symlink to ./..": _links("s", "./..", "leads out"),
    "symlink down and up": _links("s", "a/../../x", 'a ".." after a name'),
    "symlink down and up, not out": _links("s", "a/../b", 'a ".." after a name'),
    "symlink to itself and up": holds('a ".." after a name', symlink("current", "."), symlink("parent", "current/..")),
    "symlinks that are not normal, CVE-2025-4138": holds(
        'a ".." after a name', symlink("link", "./"), symlink("escape", "link/link/../../x")
    ),
    "directory made a symlink, CVE-2024-12718": holds(
        "is there twice, as a directory and as a symlink", directory("a"), directory("a/pwn"), symlink("a/pwn", "b")
    ),
    "symlink with a slash at its end, CVE-2026-7774": _links("x/", "..", "a directory's name"),
    "symlink without a name, CVE-2026-114583": _links("", "..", "has an empty name"),
    "symlinks longer than any path, CVE-2025-4517": (lambda: tgz(*_chain("d" * 247)), "longer than 1024 bytes"),
    "the same chain, short": (lambda: tgz(*_chain("dir")), "below the symlink"),
    "symlink replaced by a file": holds("is there twice", symlink("s", "x"), file("s", b"evil")),
    "symlink replaced by a directory": holds("is there twice", symlink("s", "x"), directory("s")),
    "symlink in place of a file": holds("is there twice", file("s"), symlink("s", "x")),
    "symlink in place of a directory": holds("is there twice", directory("s"), symlink("s", "x")),
    "symlink in place of an implied directory": holds("is there twice", file("s/x"), symlink("s", "x")),
    "symlink twice": holds("is there twice", symlink("s", "x"), symlink("s", "x")),
    "symlink to nothing": _links("s", "", "is empty"),
    "symlink absolute": _links("s", "/etc/shadow", "is absolute"),
    "symlink absolute twice": _links("s", "//etc", "is absolute"),
    "symlink absolute in PAX": holds("is absolute", pax(record("linkpath", "/etc")), symlink("s", "x")),
    "symlink up in a GNU long link": holds("leads out", long_name("../x", b"K"), header("s", b"2", magic=GNU)),
    "symlink with a newline": _links("s", "a\nb", "cannot be printed"),
    "symlink with a NUL": holds("cannot be printed", pax(record("linkpath", "a\0b")), symlink("s", "x")),
    "symlink that is not UTF-8": _links("s", b"\xff", "is not UTF-8"),
    "symlink of 1,025 bytes": holds("longer than", pax(record("linkpath", "a/" * 512 + "b")), symlink("s", "x")),
    "symlink with data": holds("yet has data", header("s", b"2", 512, link="x"), bytes(512)),
}


HARD_LINKS: Hostile = {
    "hard link absolute": holds("no file earlier", hard_link("h", "/etc/passwd")),
    "hard link up": holds("no file earlier", hard_link("h", "../flag")),
    "hard link to nothing": holds("no file earlier", hard_link("h", "")),
    "hard link to what is missing": holds("no file earlier", hard_link("h", "missing")),
    "hard link to what comes later": holds("no file earlier", hard_link("h", "x"), file("x")),
    "hard link to itself": holds("no file earlier", hard_link("h", "h")),
    "hard link to a directory": holds("no file earlier", directory("d"), hard_link("h", "d")),
    "hard link to a symlink, CVE-2026-82049": holds(
        "no file earlier", symlink("s", "control"), hard_link("h", "s"), file("h", b"evil")
    ),
    "hard link through a symlink": holds("no file earlier", file("d/x"), symlink("s", "d"), hard_link("h", "s/x")),
    "hard link by detours": holds("no file earlier", file("d/x"), hard_link("h", "d/../d/x")),
    "hard link in place of a file": holds("is there twice", file("x"), hard_link("x", "control")),
    "hard link below a symlink": holds("below the symlink", symlink("s", "d"), hard_link("s/h", "control")),
    "hard link as a way round, CVE-2025-4330": holds(
        "no file earlier", symlink("c/escape", "x"), hard_link("boom", "c/escape")
    ),
    "hard link with data": holds("yet has data", header("h", b"1", 5, link="control"), bytes(512)),
    "hard link set-uid": holds("set-uid", hard_link("h", "control", 0o4755)),
}

KINDS: Hostile = {
    "character device": holds("is a character device", header("null", b"3")),
    "block device": holds("is a block device", header("sda", b"4")),
    "FIFO": holds("is a FIFO", header("pipe", b"6")),
    "contiguous file": holds("is a contiguous file", file("x", b"x", kind=b"7")),
    "GNU sparse of 1 TiB": holds("is a sparse file", header("x", b"S", 512, pad=b"", magic=GNU), bytes(512)),
    "GNU sparse that announces 1 TiB": holds("too large", header("x", b"S", base256(1 << 40, 12), magic=GNU)),
    "GNU sparse": holds("is a sparse file", file("x", b"x", kind=b"S", magic=GNU)),
    "GNU sparse, its map in the header": holds(
        "is a sparse file", file("x", b"x", kind=b"S", magic=GNU, prefix=bytes(41) + b"00004000000\0" * 2)
    ),
    "GNU dump directory": holds("incremental backup", file("x", b"Ya\0", kind=b"D", magic=GNU)),
    "GNU volume": holds("is a volume's label", header("x", b"V", magic=GNU)),
    "GNU multi-volume": holds("from another volume", file("x", b"x", kind=b"M", magic=GNU)),
    "GNU old long name": holds("unknown kind", file("x", b"x", kind=b"N", magic=GNU)),
    "Solaris PAX": holds("unknown kind", file("x", record("path", "y"), kind=b"X")),
    "socket": holds("unknown kind", header("x", b"s")),
    "unknown": holds("unknown kind", header("x", b"Z")),
    "kind with an escape": holds('kind "\\x1b"', header("x", b"\x1b")),
    "device with a long name": holds('"dev/zero" is a char', long_name("dev/zero"), header("x", b"3", magic=GNU)),
    "set-uid": holds("set-uid", file("x", mode=0o4755)),
    "set-gid": holds("set-gid", file("x", mode=0o2755)),
    "sticky": holds("sticky", file("x", mode=0o1644)),
    "set-uid and set-gid": holds("(mode 6755)", file("x", mode=0o6755)),
    "directory with data": holds("yet has data", header("x", b"5", 512), file("hidden")),
    "directory by its slash, CVE-2025-13462": holds("a directory's name", long_name("x/"), file("y", kind=b"\0")),
}

CONTROLS: Hostile = {
    "no control": (lambda: gz(tar(file("bin/agent", mode=0o755))), "no control at the tarball's root"),
    "nothing at all": (lambda: gz(tar()), "no control at the tarball's root"),
    "control one directory down": (lambda: tgz(control=file("agent-1.0/control")), 'root, but "agent-1.0/control"'),
    "two top directories": (lambda: tgz(file("b/control"), control=file("a/control")), "no control at the"),
    "Control": (lambda: tgz(control=file("Control", mode=0o755)), "no control at the tarball's root"),
    "control without a run bit": (lambda: tgz(control=file("control", b"#!/bin/sh")), "control has no run bit"),
    "control without any bit": (lambda: tgz(control=file("control", mode=0)), "control has no run bit"),
    "control is a directory": (lambda: tgz(control=directory("control")), "control is a directory, not a file"),
    "control is an implied directory": (lambda: tgz(control=file("control/x", mode=0o755)), "control is a directory"),
    "control is a symlink": (lambda: tgz(file("run", mode=0o755), control=symlink("control", "run")), "is a symlink"),
    "control is a hard link to no program": (
        lambda: tgz(hard_link("control", "run", 0o755), control=file("run")),
        "control has no run bit",
    ),
}

MEMBERS = NAMES | DUPLICATES | SYMLINKS | HARD_LINKS | KINDS | CONTROLS
