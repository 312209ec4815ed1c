"""Archives that must be refused for their size, or for bytes that two readers could read differently: name -> (how to make
it, a part of the refusal). BOMBS would cost gigabytes or minutes if they were believed: unpack them in a child with limits.
"""

import bz2
import lzma

from helpers.hostile_members import Hostile, holds
from helpers.tarbytes import (
    CONTROL,
    END,
    GNU,
    V7,
    base256,
    directory,
    file,
    gz,
    gz_header,
    gz_of_zeros,
    gz_repeated,
    gz_with,
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

_MB, _GB = 1 << 20, 1 << 30
_PLAIN = tar(CONTROL, file("lib/help", b"\n".join(b"line %d of the agent's help" % i for i in range(400))))
_GOOD = gz(_PLAIN)
_HIDDEN = file("hidden", b"evil")  # what only a reader who is mistaken about a size takes for a member
_COMMENT = pax(record("comment", "x"), kind=b"g")


def _signed_checksum(block: bytes) -> bytes:
    """As some old programs made it, from bytes that have a sign."""
    unsigned = int(block[148:154], 8)
    return octal(unsigned - 256 * sum(byte > 127 for byte in block[:512]), 7) + b" "


BOMBS: Hostile = {
    "file of 10 GB": (lambda: gz_of_zeros(CONTROL + header("x", size=base256(10 * _GB, 12)), 10_240), "is too large"),
    "file of 2 GB from 2 MB": (lambda: gz_of_zeros(CONTROL + header("x", size=2 * _GB), 2048), "inflates to more than"),
    "10 GB of zeros after the end": (lambda: gz_of_zeros(tar(CONTROL), 10_240), "goes on after its end mark"),
    "10 GB of zeros": (lambda: gz_of_zeros(b"", 10_240), "goes on after its end mark"),
    "directory listed 1,000,000 times": (
        lambda: gz_repeated(CONTROL, directory("d") * 1000, 1000),
        "than 20000 members",
    ),
    "1,000,000 global headers": (lambda: gz_repeated(CONTROL, _COMMENT * 1000, 1000), "than 20000 members"),
    "1,000,000 PAX headers": (lambda: gz_repeated(CONTROL, pax_path("x") * 1000, 1000), "two extended headers"),
    "20,001 directories by 1,100 names": (
        lambda: gz(b"".join(symlink(f"{i}" + "/a" * 19, "x") for i in range(1100)), 1),
        "with the directories that they imply",
    ),
    "20,001 symlinks of a KB": (
        lambda: gz(
            b"".join(pax(record("linkpath", f"{i}/" + "a/" * 500)) + symlink(f"{i}", "") for i in range(20_001)), 1
        ),
        "than 20000 members",
    ),
    "long name of 1 GB, announced": (lambda: gz(header("x", b"L", _GB, magic=GNU)), "too large"),
    "long link of 1 GB, announced": (lambda: gz(header("x", b"K", _GB, magic=GNU)), "too large"),
    "long name of 1 GB": (lambda: gz_repeated(header("x", b"L", _GB, magic=GNU), b"x" * _MB, 1024), "too large"),
    "PAX header of 5 MB": (lambda: gz(pax(record("comment", "x" * 5 * _MB)) + CONTROL), "too large"),
    "global header of 5 MB": (lambda: gz(pax(record("comment", "x" * 5 * _MB), kind=b"g") + CONTROL), "too large"),
    "PAX header of 64 KB and a byte": (lambda: tgz(pax(record("comment", "x" * 65_522)), file("x")), "too large"),
    "gzip name of 10 MB": (lambda: gz_header(0b1000) + b"x" * 10 * _MB, "header is longer than"),
    "gzip comment of 10 MB": (lambda: gz_header(0b10000) + b"x" * 10 * _MB, "header is longer than"),
    "2,000,000 empty deflate blocks": (lambda: gz_header() + b"\0\0\0\xff\xff" * 2_000_000, "cut short"),
}

PAX: Hostile = {
    "size of -512": holds("two sizes", pax(record("size", "-512")), file("x")),
    "size of +5": holds("two sizes", pax(record("size", "+5")), file("x", b"12345")),
    "size of 0x5": holds("two sizes", pax(record("size", "0x5")), file("x", b"12345")),
    "size of a blank and 5": holds("two sizes", pax(record("size", " 5")), file("x", b"12345")),
    "size of nothing": holds("two sizes", pax(record("size", "")), file("x")),
    "size of 1 TB": holds("too large", pax(record("size", f"{1 << 40}")), file("x")),
    "size of 400 digits": holds("two sizes", pax(record("size", "9" * 400)), file("x")),
    "size larger than the header's": holds("two sizes", pax(record("size", "1024")), file("x", b"x"), _HIDDEN[:512]),
    "size smaller than the header's": holds("two sizes", pax(record("size", "0")), file("x", _HIDDEN)),
    "size where the header has none": holds("two sizes", pax(record("size", "1024")), header("x"), _HIDDEN),
    "size on a directory": holds("two sizes", pax(record("size", "512")), directory("d"), _HIDDEN[:512]),
    "size for an extension, then a long name": holds("both a GNU", pax(record("size", "0")), long_name("a"), file("x")),
    "path, then a GNU long name": holds("both a GNU", pax_path("a"), long_name("b"), file("x")),
    "path, after a GNU long name": holds("both a GNU", long_name("b"), pax_path("a"), file("x")),
    "path, and a GNU long link": holds("both a GNU", long_name("b", b"K"), pax_path("a"), symlink("x", "y")),
    "two headers": holds("two extended headers", pax_path("a"), pax_path("b"), file("x")),
    "two GNU long names": holds("two extended headers", long_name("a"), long_name("b"), file("x")),
    "header without a member": holds("without the member", pax_path("a")),
    "long name without a member": holds("without the member", long_name("a")),
    "record of length 0, CVE-2019-20907": holds("malformed", pax(b"0 path=a\n"), file("x")),
    "record of length 1": holds("malformed", pax(b"1 path=a\n"), file("x")),
    "record too short": holds("malformed", pax(b"9 path=ab\n"), file("x")),
    "record too long": holds("malformed", pax(b"99 path=a\n"), file("x")),
    "record of length -9": holds("malformed", pax(b"-9 path=a\n"), file("x")),
    "record of length 010": holds("malformed", pax(b"010 path=a\n"), file("x")),
    "record of length 1e1": holds("malformed", pax(b"1e1 path=a\n"), file("x")),
    "record without a length": holds("malformed", pax(b"path=a\n"), file("x")),
    "record without a newline": holds("malformed", pax(b"10 path=ab"), file("x")),
    "record without a value": holds("malformed", pax(b"8 path\n\n"), file("x")),
    "record without a key": holds("malformed", pax(b"5 =a\n"), file("x")),
    "record before NULs": holds("malformed", pax(record("path", "a") + bytes(3)), file("x")),
    "record of 10 million digits": holds("malformed", pax(b"1" * 60_000 + b" path=a\n"), file("x")),
    "records without end": holds("more than 100 records", pax(*(record(f"{n}", "") for n in range(101))), file("x")),
    "key twice": holds('says "path" twice', pax(record("path", "a"), record("path", "b")), file("x")),
    "global path": holds('says "path" of all', pax(record("path", "a"), kind=b"g"), file("x")),
    "global linkpath": holds('says "linkpath" of all', pax(record("linkpath", "a"), kind=b"g"), symlink("x", "y")),
    "global size": holds('says "size" of all', pax(record("size", "0"), kind=b"g"), file("x", b"x")),
    "global header after a member's own": holds("stands between", pax_path("a"), _COMMENT, file("x")),
    "global header after a GNU long name": holds("stands between", long_name("a"), _COMMENT, file("x")),
    "global and malformed": holds("malformed", pax(b"0 a=b\n", kind=b"g"), file("x")),
    "sparse 0.0": holds("sparse", pax(record("GNU.sparse.size", f"{1 << 40}")), file("x")),
    "sparse 0.1": holds("sparse", pax(record("GNU.sparse.map", "0,1"), record("GNU.sparse.size", "9")), file("x")),
    "sparse 1.0": holds("sparse", pax(record("GNU.sparse.major", "1"), record("GNU.sparse.name", "y")), file("x")),
    "sparse for all": holds("sparse", pax(record("GNU.sparse.major", "1"), kind=b"g"), file("x")),
    "sparse of star": holds("sparse", pax(record("SCHILY.realsize", f"{1 << 40}")), file("x")),
    "names in some other coding": holds("not UTF-8", pax(record("hdrcharset", "BINARY")), file("x")),
}

HEADERS: Hostile = {
    "checksum wrong": holds("checksum is wrong", file("x", checksum=b"000000\0 ")),
    "checksum of nothing": holds("checksum is wrong", file("x", checksum=bytes(8))),
    "checksum with a sign": holds("checksum is wrong", file("x", checksum=b"-00001\0 ")),
    "checksum of signed bytes": holds("checksum is wrong", file("é", checksum=_signed_checksum(file("é")))),
    "version 7's": holds("neither ustar nor GNU nor PAX", file("x", magic=V7)),
    "of another magic": holds("neither ustar nor GNU nor PAX", file("x", magic=b"tarfs\x0000")),
    "ustar of version 01": holds("neither ustar nor GNU nor PAX", file("x", magic=b"ustar\x0001")),
    "star's": holds("bytes where there should be none", file("x", pad=b"\0\0\0\0\0\0\0\0tar\0")),
    "GNU with times of an incremental backup": holds("incremental", file("x", magic=GNU, prefix=b"14517433100\0")),
    "GNU with a ustar prefix": holds("incremental", file("x", magic=GNU, prefix=b"lib")),
    "name goes on after its end": holds("bytes where there", file(b"x\0" + b"y" * 98)),
    "link goes on after its end": holds("bytes where there", header("x", b"2", link=b"control\0/etc/passwd")),
    "size of digits that are not octal": holds("no usable size", header("x", size=b"00000000009\0")),
    "size of blanks": holds("no usable size", header("x", size=b" " * 12)),
    "size of nothing": holds("no usable size", header("x", size=bytes(12))),
    "size of -1 in digits": holds("no usable size", header("x", size=b"-0000000001\0")),
    "size of -512 in base 256": holds("no usable size", header("x", size=base256(-512, 12))),
    "size of 2^87 in base 256": holds("too large", header("x", size=base256(1 << 87, 12))),
    "size of 2 GB and a byte": holds("too large", header("x", size=2 * _GB + 1)),
    "size in base 256 with a bit too many": holds("no usable size", header("x", size=b"\x81" + bytes(11))),
    "size in octal, then letters": holds("no usable size", header("x", size=b"0000005 evil")),
    "size in octal, twice": holds("no usable size", header("x", size=b"00005\x0000009\0")),
    "mode of letters": holds("no usable mode", header("x", mode=b"rw-r--r--"[:8])),
    "mode in base 256": holds("no usable mode", header("x", mode=base256(0o644, 8))),
}

ENDS: Hostile = {
    "no end mark": (lambda: gz(_PLAIN[:-1024]), "ends without its end mark"),
    "one block of end mark": (lambda: gz(_PLAIN[:-512]), "ends without its end mark"),
    "one block and a half of end mark": (lambda: gz(_PLAIN[:-1]), "ends without its end mark"),
    "half an end mark, then a member": holds("goes on after its end mark", bytes(512), _HIDDEN),
    "members after the end mark": (lambda: gz(_PLAIN + _HIDDEN + END), "goes on after its end mark"),
    "a byte after the end mark": (lambda: gz(_PLAIN + bytes(8000) + b"x"), "goes on after its end mark"),
    "cut in a header": (lambda: gz(_PLAIN[:1300]), "ends without its end mark"),
    "cut in a file": (lambda: gz(_PLAIN[:2000]), 'cut short within member "lib/help"'),
    "cut in a file's last block": (lambda: gz(_PLAIN[:-1025]), "ends without its end mark"),
    "cut in an extended header": (lambda: gz(CONTROL + pax_path("a" * 900)[:1000]), "within an extended header"),
    "file that announces more than there is": (lambda: gz(CONTROL + header("x", size=5000) + END), "cut short within"),
    "nothing": (lambda: gz(b""), "ends without its end mark"),
}

GZIPS: Hostile = {
    "empty": (lambda: b"", "not a gzip file: it is empty"),
    "web page": (lambda: b"<!doctype html><title>Log in</title>", "not a gzip file: it begins like a web page"),
    "web page after blanks": (lambda: b"\r\n <html>", "begins like a web page"),
    "tar without gzip": (lambda: _PLAIN, "not a gzip file"),
    "zip": (lambda: b"PK\x03\x04" + bytes(100), "not a gzip file"),
    "bzip2": (lambda: bz2.compress(_PLAIN), "not a gzip file"),
    "xz": (lambda: lzma.compress(_PLAIN), "not a gzip file"),
    "old compress": (lambda: b"\x1f\x9d\x90" + bytes(100), "not a gzip file"),
    "unknown method": (lambda: gz_header(method=7) + _GOOD[10:], "not a gzip file"),
    "two bytes": (lambda: _GOOD[:2], "not a gzip file"),
    "header only": (lambda: _GOOD[:10], "cut short"),
    "half": (lambda: _GOOD[: len(_GOOD) // 2], "cut short"),
    "no trailer": (lambda: _GOOD[:-8], "cut short"),
    "half a trailer": (lambda: _GOOD[:-4], "cut short"),
    "all but a byte": (lambda: _GOOD[:-1], "cut short"),
    "no deflate": (lambda: gz_header() + b"\xff" * 100, "damaged"),
    "wrong CRC": (lambda: _GOOD[:-8] + b"\0\0\0\0" + _GOOD[-4:], "damaged"),
    "wrong length": (lambda: _GOOD[:-4] + b"\0\0\0\0", "damaged"),
    "400 bytes of junk after it": (lambda: _GOOD + b"junk" * 100, "followed by something else"),
    "a zero after it": (lambda: _GOOD + b"\0", "followed by something else"),
    "junk after it, far": (lambda: _GOOD + bytes(1 << 20), "followed by something else"),
    "another archive after it": (lambda: _GOOD + gz(tar(_HIDDEN)), "followed by a second gzip member"),
    "an empty gzip after it": (lambda: _GOOD + gz(b""), "followed by a second gzip member"),
    "split over two gzips": (lambda: gz(_PLAIN[:1024]) + gz(_PLAIN[1024:]), "followed by a second gzip member"),
    "gzipped twice": (lambda: gz(_GOOD), "damaged: its checksum is wrong"),
    "header CRC wrong": (lambda: gz_with(0b10, b"\0\0", _PLAIN), "damaged: its CRC"),
    "reserved flag, 0x20": (lambda: gz_with(0x20, b"", _PLAIN), "flags that RFC 1952 reserves"),
    "reserved flag, 0x40": (lambda: gz_with(0x40, b"", _PLAIN), "flags that RFC 1952 reserves"),
    "reserved flag, 0x80": (lambda: gz_with(0x80, b"", _PLAIN), "flags that RFC 1952 reserves"),
    "header cut in its extra field": (lambda: gz_header(0b100, fields=b"\xff\xff") + b"x" * 100, "within its header"),
    "header cut in its name": (lambda: gz_header(0b1000) + b"agent", "within its header"),
    "header cut in its CRC": (lambda: gz_header(0b10) + b"\0", "within its header"),
}

BYTES = {
    f"{group}: {name}": case
    for group, cases in (("PAX", PAX), ("header", HEADERS), ("end", ENDS), ("gzip", GZIPS))
    for name, case in cases.items()
}
