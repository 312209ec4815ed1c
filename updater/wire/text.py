"""Shows foreign text in messages, with its odd characters escaped and named. Pure.

A no-break space looks like a blank, and zero-width characters or a final line break are invisible. Shown unescaped, they
would send the reader looking for the mistake elsewhere.
"""

import re
import unicodedata

SHOWN = 80  # characters of a text
_NAMED = 3  # odd characters that are named
_MARKS_OF_ONE = 4  # combining marks that are shown on one letter; few languages have more
_UNSEEN_MARK = re.compile(r"[\u034f\u17b4\u17b5\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_CONTROLS = {
    "\0": "NULL",
    "\t": "TABULATION",
    "\n": "LINE FEED",
    "\r": "CARRIAGE RETURN",
    "\x1b": "ESCAPE",
    "\x7f": "DELETE",
}
_BLANKS = " \t\n\r\v\f\x85\u2028\u2029"  # of one line, and what ends it
_LOOKED_AT = 400  # bytes of a file that are examined
_ASCII_AT_LEAST = 20  # at least one of so many characters is ASCII, in a configuration file in any language
_MARKS = (b"\xff\xfe", b"\xfe\xff")
UTF_16 = "looks like UTF-16; save it as UTF-8"
UTF_32 = "looks like UTF-32; save it as UTF-8"


def quoted(text: str, most: int = SHOWN) -> str:
    """`"falcon agent"`, or `"falcon\\u00a0agent" (with U+00A0 NO-BREAK SPACE)`: on one line, and at most `most` characters."""
    shown = _in_quotes(text[:most])
    odd = _odd_ones(text)
    if not odd:
        return f'"{shown}"'
    where = "ends with" if odd == [text[-1]] and text.count(text[-1]) == 1 else "with"
    return f'"{shown}" ({where} {_names(odd)})'


def counted(count: int, one: str, several: str = "") -> str:
    """`1 host`, `2,000 hosts`; several: the plural, if it is not made with an `s`."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def _in_quotes(text: str) -> str:
    """The text with what cannot be seen escaped. A combining mark is shown on its letter, as in a name in NFD or in Thai, and
    escaped where it would join something else."""
    shown, room = [], 0
    for c in text:
        is_mark = _is_mark(c)
        kept = room > 0 and not _UNSEEN_MARK.match(c) if is_mark else c.isprintable()
        shown.append(c if kept else _escaped(c))
        room = (room - 1 if is_mark else _MARKS_OF_ONE * (unicodedata.category(c)[0] in "LN")) if kept else 0
    return "".join(shown)


def _is_mark(c: str) -> bool:
    return unicodedata.category(c)[0] == "M"


def _odd_ones(text: str) -> list[str]:
    return list(dict.fromkeys(c for at, c in enumerate(text) if _is_odd(c, at in (0, len(text) - 1))))


def plain(text: str) -> str:
    """The text unchanged if it has no odd characters, else quoted: for messages that show it without quotation marks."""
    return quoted(text) if _odd_ones(text) else text


def file_name(name: str) -> str:
    """The name of a file: unchanged if every character of it can be seen, in any language, and else quoted, as a whole."""
    return name if name.isprintable() and not _is_mark(name[:1] or " ") else quoted(name, len(name))


def visible(text: str) -> str:
    """The same lines, with every character escaped that cannot be seen."""
    return text if text.isprintable() else "".join(c if c == "\n" or c.isprintable() else _escaped(c) for c in text)


def visible_error(text: str) -> str:
    """The same, and the names of what was escaped: for an error with a name in it that may have been mistyped."""
    odd = list(dict.fromkeys(c for c in text if c != "\n" and not c.isprintable()))
    return f"{visible(text)} (with {_names(odd)})" if odd else text


def trimmed(secret: str) -> str:
    """The text without the blanks and line ends that an editor or a shell leaves around it. A no-break space stays, so that
    it is found."""
    return secret.strip(" \t\r\n")


def in_plain_sight(text: str) -> bool:
    """Whether a reader can see every character of it."""
    return text.isprintable() and text == text.strip()


def odd_characters(text: str) -> str:
    """The names of its characters that are not visible ASCII, for a text that must not be shown itself; "" for none."""
    odd = list(dict.fromkeys(c for c in text if _is_odd(c, True)))
    return _names(odd)


def encoding_problem(data: bytes) -> str:
    """What to do about a text file in UTF-16 or UTF-32, with a byte order mark or without; "" for other files."""
    head = data[:_LOOKED_AT]
    if _reads_as_utf_32(head):
        return UTF_32
    every_other = (head[0::2], head[1::2])
    is_so = head.startswith(_MARKS) or any(len(half) > 1 and half.count(0) * 10 > len(half) * 7 for half in every_other)
    return UTF_16 if is_so or _reads_as_utf_16(data) else ""


def _reads_as_utf_32(head: bytes) -> bool:
    """Whether each four bytes are a character that can be seen. In another encoding, a NUL of every four cannot be."""
    for encoding in ("utf-32-le", "utf-32-be"):
        try:
            text = head[: len(head) // 4 * 4].decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
        if text and all(c.isprintable() or c in _SHORT for c in text):
            return True
    return False


def _reads_as_utf_16(data: bytes) -> bool:
    """Whether mostly non-ASCII bytes are UTF-16: some ASCII has its NULs on the same side, and all of it is printable."""
    big, little = data[0::2].count(0), data[1::2].count(0)
    few, many = sorted((big, little))
    if few * 4 > many or not many or many * _ASCII_AT_LEAST < len(data) // 2:
        return False
    try:
        text = data.decode("utf-16-be" if big > little else "utf-16-le")
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in _SHORT for c in text)


def _is_odd(c: str, at_an_end: bool) -> bool:
    return at_an_end if c == " " else not "!" <= c <= "~"


def _escaped(c: str) -> str:
    if _is_byte(c):
        return f"\\x{ord(c) & 0xFF:02x}"
    return _SHORT.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 1 << 16 else f"\\U{ord(c):08x}")


def _is_byte(c: str) -> bool:
    """Whether it stands for a byte that is no UTF-8, as Python has it in arguments and file names."""
    return "\udc80" <= c <= "\udcff"


def _names(odd: list[str]) -> str:
    """The first of these characters by name, and how many more there are; "" for none."""
    return ", ".join(map(_name, odd[:_NAMED])) + (f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else "")


def _name(c: str) -> str:
    if _is_byte(c):
        return f"the byte {ord(c) & 0xFF:02X}"
    name = unicodedata.name(c, "") or _CONTROLS.get(c, "CONTROL" if unicodedata.category(c) == "Cc" else "")
    return f"U+{ord(c):04X} {name}".rstrip()


def one_line(text: str, limit: int) -> str:
    """Foreign text made safe for a log line or a table: line ends and tabs become blanks, and what else cannot be seen, such
    as control characters, is escaped."""
    return _printable(text.strip(_BLANKS)[:limit])[:limit].strip()


def indented_line(text: str, limit: int) -> str:
    """The same with its indentation, as a diff is read by columns."""
    return _printable(text.rstrip(_BLANKS)[:limit])[:limit]


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else " " if c in _BLANKS else _escaped(c) for c in line)
