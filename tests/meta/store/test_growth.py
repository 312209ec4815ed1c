"""The bench of growth measures what meta itself reads: a short life of a company's database."""

from contextlib import closing

import pytest

from bench.growth import EDITS_A_DAY, measure
from helpers.databases import database
from meta.store import Store

pytestmark = pytest.mark.long


def test_the_history_of_some_weeks_is_as_long_as_it_says_and_is_read_in_no_time(tmp_path):
    with database("sqlite", tmp_path) as url, closing(Store(url)) as store:
        found = measure(store, url, 0.1)
        assert found["edits"] == 36 * EDITS_A_DAY
        newest = store.revisions(limit=2)
        assert [one.number for one in newest] == [36 * EDITS_A_DAY + 1, 36 * EDITS_A_DAY]
        assert all(one.changes for one in newest)
        assert [one.number for one in store.revisions(before=3)] == [2, 1]
        labels = store.load_records().labels
        in_force = sum(1 for _, hashed, _ in store.host_tokens() if hashed)
    assert len(labels) >= found["labels"] == found["hosts"]
    assert in_force == found["host_tokens_in_force"] == min(found["hosts"], found["host_tokens"])
    assert 0 < found["history_MB"] < 10
    assert max(found["seconds"].values()) < 10
