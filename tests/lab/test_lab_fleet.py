"""What the demo and the end-to-end tests start their services with."""

import pytest

from lab.fleet import Meta


class EnoughError(Exception):
    pass


@pytest.mark.long
def test_who_waits_for_a_meta_to_start_may_end_that_sooner_and_leaves_none(tmp_path):
    def wait(_what, _probe, within):
        assert within > 1
        raise EnoughError

    with Meta(tmp_path / "meta") as meta:
        with pytest.raises(EnoughError):
            meta.start(wait=wait)
        assert meta.running
    assert not meta.running
