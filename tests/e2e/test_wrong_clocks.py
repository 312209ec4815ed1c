"""Clocks of metas, as processes: one that is set makes no host late, and one that is not the database's is told."""

import pytest
import requests

from helpers.clocks import settable_clock
from helpers.databases import database
from lab.fleet import Meta, get, until


def test_a_clock_that_is_set_two_hours_forward_makes_no_host_late_and_ends_tokens(tmp_path):
    with Meta(tmp_path / "meta") as meta:
        offset = tmp_path / "offset"
        meta.environment |= settable_clock(offset)
        meta.start()
        made = meta.run("token", "new", "short", "--role", "viewer", "--expires", "1h").stdout.strip()
        requests.post(f"{meta.url}/heartbeat", json={"hostname": "h1", "realAgents": []}, timeout=5).raise_for_status()

        def who():
            shown = {"Authorization": f"Bearer {made}"}
            return requests.get(f"{meta.url}/api/v1/whoami", headers=shown, timeout=5).status_code

        assert who() == 200
        offset.write_text("+2h\n")
        until("meta notices", lambda: "the clock was set by +7200 s" in meta.log.read_text())
        assert meta.run("hosts", "-o", "json").stdout.count('"state":"late"') == 0
        states = get(f"{meta.url}/metrics").text
        assert 'meta_hosts{state="late"} 0.0' in states
        assert 'meta_hosts{state="lost"} 0.0' in states
        assert who() == 401


@pytest.mark.parametrize(("offset", "words"), [("+20s", "20 s ahead of the database's"), ("-20s", "20 s behind")])
def test_a_clock_that_is_not_the_databases_is_told_and_meta_is_ready(tmp_path, offset, words):
    with database("postgresql", tmp_path) as url, Meta(tmp_path / "meta", url) as meta:
        meta.environment |= settable_clock(tmp_path / "offset", offset)
        meta.start()
        answer = get(f"{meta.url}/ready")
        assert (answer.status_code, answer.text.splitlines()[0]) == (200, "ready")
        assert words in answer.text.replace("19 s", "20 s")
        assert words.split(" s ")[1] in meta.log.read_text()
        line = next(line for line in get(f"{meta.url}/metrics").text.splitlines() if 'of="database"' in line)
        assert abs(float(line.split()[1])) == pytest.approx(20, abs=4)
