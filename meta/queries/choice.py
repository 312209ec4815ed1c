"""Which hosts a question is about: all of them, or those of a selector. A selector of the records is answered by classes."""

from meta.hosts.classes import Class, Classes
from meta.hosts.model import Host, Part
from meta.hosts.table import HostTable
from meta.records.selectors import Selector


class Choice:
    """The hosts of a selector by the records of `book`; of None, all hosts."""

    def __init__(self, book: Classes, selector: Selector | None = None):
        self._book = book
        self._selector = selector
        self._is_known = selector in book.selectors

    def whole(self, klass: Class) -> bool | None:
        """Whether all hosts of this class are chosen (True), none (False), or perhaps some (None)."""
        if self._selector is None:
            return True
        if not self._is_known or klass.book is not self._book:
            return None
        return self._selector in klass.matched

    def has(self, host: Host) -> bool:
        labels = self._book.records.labels
        return self._selector is None or self._selector.matches(host.name, labels.get(host.name, {}))

    def number(self, table: HostTable, part: Part) -> int:
        """How many hosts of a group are chosen."""
        is_whole = self.whole(part.klass)
        if is_whole is None:
            return sum(map(self.has, table.members([part.group])))
        return part.number if is_whole else 0
