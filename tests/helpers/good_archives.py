"""Archives that must unpack: name -> (how to make it, what must then be there).

The tree is written as `ls -F` would: `name` a file, `name*` one with a run bit, `name/` a directory, `name@` a symlink; a
file's value is its content, a symlink's its target. `control*` is among them everywhere and not repeated.
"""

import io
import tarfile
from collections.abc import Callable

from helpers.tarbytes import (
    CONTROL,
    END,
    GNU,
    base256,
    directory,
    file,
    gz,
    gz_with,
    gz_with_header_crc,
    hard_link,
    header,
    long_name,
    octal,
    pax,
    pax_path,
    record,
    symlink,
    tar,
    tgz,
)

Tree = dict[str, bytes | str | None]
Good = dict[str, tuple[Callable[[], bytes], Tree]]

CONTROL_SCRIPT = b"#!/bin/sh\n"
_LONG = "/".join(["some-directory"] * 9) + "/file"
_LINKED = "lib/" + "x" * 130
_XATTR = record("SCHILY.xattr.security.capability", b"\1\0\0\2\0\4\0\0" + bytes(12)) + record(
    "SCHILY.acl.access", "u::rwx"
)


def _holds(tree: Tree, *members: bytes) -> tuple[Callable[[], bytes], Tree]:
    return lambda: tgz(*members), tree


def _parents(path: str) -> Tree:
    parts = path.split("/")[:-1]
    return {"/".join(parts[: n + 1]) + "/": None for n in range(len(parts))}


def _by_tarfile(format: int) -> bytes:  # noqa: A002
    """The same tree in each of the formats that Python's own tarfile writes."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=format) as archive:
        for name, data in (("control", CONTROL_SCRIPT), (_LONG, b"deep"), ("é/ü", b"accents"), ("empty", b"")):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o755 if name == "control" else 0o644, 1_700_000_000.25
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "é/ü"
        archive.addfile(link)
    return gz(made.getvalue())


_TARFILE_TREE: Tree = {
    **_parents(_LONG),
    _LONG: b"deep",
    "é/": None,
    "é/ü": b"accents",
    "empty": b"",
    "link@": "é/ü",
}

FORMATS: Good = {
    "tarfile, ustar": (lambda: _by_tarfile(tarfile.USTAR_FORMAT), _TARFILE_TREE),
    "tarfile, GNU": (lambda: _by_tarfile(tarfile.GNU_FORMAT), _TARFILE_TREE),
    "tarfile, PAX": (lambda: _by_tarfile(tarfile.PAX_FORMAT), _TARFILE_TREE),
    "GNU magic": _holds({"x": b"x"}, file("x", b"x", magic=GNU)),
    "kind of NUL": _holds({"x": b"x"}, file("x", b"x", kind=b"\0")),
    "name of 100 bytes": _holds({"x" * 100: b"x"}, file("x" * 100, b"x")),
    "name in the prefix": _holds({"lib/": None, "lib/x": b"x"}, file("x", b"x", prefix=b"lib")),
    "name of 256 bytes in both fields": _holds(
        {"p" * 155 + "/": None, "p" * 155 + "/" + "x" * 100: b"x"}, file("x" * 100, b"x", prefix=b"p" * 155)
    ),
    "GNU long name": _holds({**_parents(_LONG), _LONG: b"x"}, long_name(_LONG), file(_LONG[:100], b"x", magic=GNU)),
    "GNU long name that is short": _holds({"short": b"x"}, long_name("short"), file("y", b"x", magic=GNU)),
    "GNU long directory": _holds({"x" * 120 + "/": None}, long_name("x" * 120 + "/"), directory("x")),
    "GNU long link": _holds({"s@": _LINKED}, long_name(_LINKED, b"K"), symlink("s", _LINKED[:100])),
    "GNU long link and long name": _holds(
        {"n" * 120 + "@": _LINKED}, long_name(_LINKED, b"K"), long_name("n" * 120), symlink("n" * 100, "l")
    ),
    "GNU long hard link": _holds(
        {"lib/": None, _LINKED: b"x", "h": b"x"},
        *(long_name(_LINKED), file("x", b"x"), long_name(_LINKED, b"K"), hard_link("h", _LINKED[:100])),
    ),
    "PAX path": _holds({**_parents(_LONG), _LONG: b"x"}, pax_path(_LONG), file("x", b"x")),
    "PAX path, in other letters": _holds({"日本": b"x"}, pax_path("日本"), file("??", b"x")),
    "PAX linkpath": _holds({"s@": _LINKED}, pax(record("linkpath", _LINKED)), symlink("s", "l")),
    "PAX path and linkpath": _holds(
        {"n" * 120 + "@": _LINKED}, pax(record("path", "n" * 120), record("linkpath", _LINKED)), symlink("n", "l")
    ),
    "PAX size that agrees": _holds({"x": b"12345"}, pax(record("size", "5")), file("x", b"12345")),
    "PAX times and owner": _holds(
        {"x": b"x"},
        pax(record("mtime", "1700000000.123456789"), record("uid", "4294967295"), record("uname", "é\n=")),
        file("x", b"x"),
    ),
    "PAX attributes and ACLs, ignored": _holds({"x": b"x"}, pax(_XATTR), file("x", b"x")),
    "PAX in UTF-8, said so": _holds({"x": b"x"}, pax(record("hdrcharset", "ISO-IR 10646 2000 UTF-8")), file("x", b"x")),
    "PAX header of 64 KB": _holds({"x": b"x"}, pax(record("comment", "x" * 65_521)), file("x", b"x")),
    "PAX header of nothing": _holds({"x": b"x"}, pax(), file("x", b"x")),
    "PAX of one member does not reach the next": _holds(
        {"long": b"1", "y": b"2"}, pax_path("long"), file("x", b"1"), file("y", b"2")
    ),
    "git archive": (
        lambda: gz(pax(record("comment", "0" * 40), kind=b"g") + CONTROL + directory("lib/") + END + bytes(7000)),
        {"lib/": None},
    ),
    "several global headers": _holds(
        {"x": b"", "y": b""},
        *(
            pax(record("comment", "1"), kind=b"g"),
            pax(record("mtime", "5"), kind=b"g"),
            file("x"),
            pax(kind=b"g"),
            file("y"),
        ),
    ),
    "global header and a GNU long name": _holds(
        {"y": b""}, pax(record("comment", "1"), kind=b"g"), long_name("y"), file("x")
    ),
    "numbers with blanks": _holds(
        {"x": b"12345"}, header("x", size=b"          5 ", mode=b"   644 \0") + b"12345".ljust(512, b"\0")
    ),
    "size in base 256": _holds(
        {"x": b"12345"}, header("x", size=base256(5, 12), magic=GNU) + b"12345".ljust(512, b"\0")
    ),
    "owner in base 256": _holds({"x": b""}, file("x", uid=base256(1 << 40, 8))),
    "owner of -1": _holds({"x": b""}, file("x", uid=base256(-1, 8))),
    "owner of 2097151": _holds({"x": b""}, file("x", uid=octal(2097151, 8))),
    "time before 1970": _holds({"x": b""}, file("x", mtime=base256(-1, 12))),
    "time in the future": _holds({"x": b""}, file("x", mtime=1 << 32)),
    "time of letters": _holds({"x": b""}, file("x", mtime=b"yesterday   ")),
    "data after what is padded, not zero": _holds({"x": b"x"}, header("x", size=1) + b"x" * 512),
    "zeros up to 10,240 bytes": (lambda: gz(tar(CONTROL) + bytes(8192)), {}),
    "zeros up to 1 MB": (lambda: gz(tar(CONTROL) + bytes(1 << 20)), {}),
    "zeros of half a block": (lambda: gz(tar(CONTROL) + bytes(100)), {}),
    "gzip stored": (lambda: gz(tar(CONTROL, file("x", b"x")), 0), {"x": b"x"}),
    "gzip at its best": (lambda: gz(tar(CONTROL, file("x", b"x")), 9), {"x": b"x"}),
    "gzip with a name": (lambda: gz_with(0b1000, b"agent-1.0.tar\0", tar(CONTROL)), {}),
    "gzip with a comment": (lambda: gz_with(0b10000, b"made by hand\0", tar(CONTROL)), {}),
    "gzip with an extra field": (lambda: gz_with(0b100, b"\4\0abcd", tar(CONTROL)), {}),
    "gzip said to be text": (lambda: gz_with(0b1, b"", tar(CONTROL)), {}),
    "gzip with a CRC of its header": (lambda: gz_with_header_crc(0, b"", tar(CONTROL)), {}),
    "gzip with an extra field of 65,535 bytes": (lambda: gz_with(0b100, b"\xff\xff" + bytes(65535), tar(CONTROL)), {}),
    "gzip with a name of 100,000 bytes": (lambda: gz_with(0b1000, b"x" * 100_000 + b"\0", tar(CONTROL)), {}),
    "gzip with a CRC of a header with a long name": (
        lambda: gz_with_header_crc(0b1000, b"x" * 300 + b"\0", tar(CONTROL)),
        {},
    ),
    "gzip with all there is": (
        lambda: gz_with_header_crc(0b11101, b"\4\0abcd" + b"name\0" + b"comment\0", tar(CONTROL)),
        {},
    ),
}


TREES: Good = {
    "control alone": _holds({}),
    "control with ./": (lambda: tgz(control=file("./control", CONTROL_SCRIPT, 0o755)), {}),
    "control that is a hard link": (
        lambda: tgz(hard_link("control", "run"), control=file("run", CONTROL_SCRIPT, 0o755)),
        {"run*": CONTROL_SCRIPT},
    ),
    "control that is empty": (lambda: tgz(control=file("control", b"", 0o755)), {"control*": b""}),
    "top as ./": _holds({"x": b""}, directory("./"), file("./x")),
    "top as .": _holds({"x": b""}, directory("."), file("x")),
    "top listed twice": _holds({}, directory("./"), directory("./")),
    "directories implied": _holds({"a/": None, "a/b/": None, "a/b/x": b"x"}, file("a/b/x", b"x")),
    "directories listed": _holds(
        {"a/": None, "a/b/": None, "a/x": b""}, directory("a/"), directory("a/b/"), file("a/x")
    ),
    "directories after what is in them": _holds({"a/": None, "a/x": b""}, file("a/x"), directory("a/")),
    "directories without their slash": _holds({"a/": None, "a/x": b""}, directory("a"), file("a/x")),
    "directories listed twice": _holds({"a/": None}, directory("a/"), directory("./a"), directory("a")),
    "directories that are empty": _holds(
        {"a/": None, "a/b/": None, "log/": None}, directory("a/b/"), directory("log/")
    ),
    "directories 20 deep": _holds({**_parents("a/" * 19 + "x"), "a/" * 19 + "x": b""}, file("a/" * 19 + "x")),
    "a hundred directories, in turns": _holds(
        {f"d{n}/": None for n in range(100)} | {f"d{n}/{f}": b"" for n in range(100) for f in "xy"},
        *(file(f"d{n}/{f}") for f in "xy" for n in range(100)),
    ),
    "files of all sizes around a block": _holds(
        {f"x{size}": b"x" * size for size in (0, 1, 511, 512, 513, 1024)},
        *(file(f"x{size}", b"x" * size) for size in (0, 1, 511, 512, 513, 1024)),
    ),
    "file of 3 MB": _holds({"x": b"0123456789abcdef" * 196_608}, file("x", b"0123456789abcdef" * 196_608)),
    "300 files, more than may wait for their fsync": _holds(
        {"d/": None} | {f"d/{n}": b"%d" % n for n in range(300)}, *(file(f"d/{n}", b"%d" % n) for n in range(300))
    ),
    "modes masked": _holds(
        {"a": b"", "b": b"", "c*": b"", "d*": b"", "e*": b"", "f/": None},
        *(
            file("a", mode=0),
            file("b", mode=0o666),
            file("c", mode=0o100),
            file("d", mode=0o777),
            file("e", mode=0o001),
        ),
        directory("f", 0o000),
    ),
    "directories with set-uid, set-gid and sticky bits": _holds(
        {"u/": None, "g/": None, "t/": None, "all/": None, "all/x": b""},
        *(directory("u", 0o4755), directory("g/", 0o2775), directory("t", 0o1777), directory("all/", 0o7777)),
        file("all/x"),
    ),
    "the top with a set-gid bit": _holds({"x": b""}, directory("./", 0o2775), file("./x")),
    "modes with the kind of file in them": _holds({"a*": b""}, file("a", mode=0o100755)),
    "names of all sorts": _holds(
        {"a b": b"", "~+,=%@:": b"", "-rf": b"", "$(id)": b"", "日本語": b"", "😀": b"", "..a": b"", ".b": b""},
        *map(file, ("a b", "~+,=%@:", "-rf", "$(id)", "日本語", "😀", "..a", ".b")),
    ),
    "names that end with a dot": _holds(
        {"control.": b"", "a./": None, "a./x": b"", ".../": None, ".../x": b"", "s@": "control."},
        *(file("control."), file("a./x"), file(".../x"), symlink("s", "control.")),
    ),
    "names with a backslash": _holds(
        {"foo\\x2dbar.service": b"", "..\\flag": b"", "C:\\flag": b"", "s@": "foo\\x2dbar.service", "t@": "..\\x"},
        *(file("foo\\x2dbar.service"), file("..\\flag"), file("C:\\flag")),
        *(symlink("s", "foo\\x2dbar.service"), symlink("t", "..\\x")),
    ),
    "names that differ only in case": _holds(
        {
            "Makefile": b"1",
            "makefile": b"2",
            "Control": b"",
            "Lib/": None,
            "lib/": None,
            "Lib/a": b"",
            "lib/a": b"",
            "S@": "s",
        },
        *(
            file("Makefile", b"1"),
            file("makefile", b"2"),
            file("Control"),
            file("Lib/a"),
            directory("lib"),
            file("lib/a"),
        ),
        symlink("S", "s"),
    ),
    "names that differ only in the spelling of accents": _holds(
        {"é": b"1", "e\u0301": b"2", "straße": b"", "STRASSE": b"", "k": b"", "\u212a": b""},
        *(file("é", b"1"), file("e\u0301", b"2"), file("straße"), file("STRASSE"), file("k"), file("\u212a")),
    ),
    "names like the updater's own, in another case": _holds(
        {".Version": b"", ".INSTALLED": b""}, file(".Version"), file(".INSTALLED")
    ),
    "names with accents not composed": _holds({"e\u0301": b""}, file("e\u0301")),
    "name of 255 bytes": _holds({"x" * 255: b""}, pax_path("x" * 255), file("x")),
    "names like the updater's own": _holds(
        {".versions": b"", "etc/": None, "etc/.version": b"", "etc/.installed": b""},
        *map(file, (".versions", "etc/.version", "etc/.installed")),
    ),
    "symlinks inside": _holds(
        {"lib/": None, "lib/x.1": b"x", "lib/x@": "x.1", "y@": "lib/x.1", "lib/z@": "../y", "lib/top@": ".."},
        *(file("lib/x.1", b"x"), symlink("lib/x", "x.1"), symlink("y", "lib/x.1"), symlink("lib/z", "../y")),
        symlink("lib/top", ".."),
    ),
    "symlinks before what they lead to": _holds({"s@": "x", "x": b"x"}, symlink("s", "x"), file("x", b"x")),
    "symlinks to nothing": _holds({"log@": "var/log/agent"}, symlink("log", "var/log/agent")),
    "symlinks in a circle": _holds(
        {"a@": "b", "b@": "a", "c@": "c"}, symlink("a", "b"), symlink("b", "a"), symlink("c", "c")
    ),
    "symlinks to the top": _holds({"s@": ".", "d/": None, "d/s@": ".."}, symlink("s", "."), symlink("d/s", "..")),
    "symlinks with idle parts": _holds({"s@": ".//a/./b/"}, symlink("s", ".//a/./b/")),
    "symlink to a name that could be ours": _holds({"s@": ".version"}, symlink("s", ".version")),
    "hard links": _holds(
        {"a": b"x", "b": b"x", "d/": None, "d/c": b"x"},
        *(file("a", b"x"), hard_link("b", "a"), hard_link("d/c", "b")),
    ),
    "hard links with ./": _holds({"a": b"x", "b": b"x"}, file("./a", b"x"), hard_link("./b", "./a")),
    "hard links to a program": _holds({"run*": CONTROL_SCRIPT}, hard_link("run", "control", 0o755)),
    "hard links far apart": _holds(
        {**_parents("a/" * 19 + "x"), **_parents("b/" * 19 + "y"), "a/" * 19 + "x": b"x", "b/" * 19 + "y": b"x"},
        *(file("a/" * 19 + "x", b"x"), hard_link("b/" * 19 + "y", "a/" * 19 + "x")),
    ),
}
