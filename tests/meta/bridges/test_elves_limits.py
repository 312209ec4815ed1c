"""What elves' agents and modules send has limits of one module, which the document lists, and which messages name."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta.bridges.elves.app_table import BadTable, parse_table
from meta.bridges.elves.limits import MAX_APPS, MAX_ENTRIES, MAX_IP, MAX_TEXT, TABLE
from meta.bridges.elves.translator import Info, judge

ROOT = Path(__file__).parents[3]


def test_the_document_has_the_table_of_limits():
    text = (ROOT / "docs" / "elves.md").read_text()
    assert "\n".join(f"| {limit.what} | {limit.most} |" for limit in TABLE) in text
    for limit in TABLE:
        assert re.search(rf"\b{limit.number:,}\b", limit.most)


def test_no_other_module_of_the_bridge_has_a_limit_of_what_is_sent():
    of_files_and_nodes = {"MAX_FILE", "MAX_NODE"}  # which the bridge itself writes, or its configuration
    bridge = ROOT / "meta" / "bridges" / "elves"
    others = [file for file in bridge.rglob("*.py") if file.name != "limits.py"]
    found = {name for file in others for name in re.findall(r"^(MAX_\w+) = ", file.read_text(), re.MULTILINE)}
    assert found <= of_files_and_nodes


def table(app, version):
    return json.dumps([{"app": app, "version": version, "agentList": ["10.0.0.1"]}]).encode()


@given(st.integers(1, 2 * MAX_TEXT), st.booleans())
def test_an_app_that_an_agent_may_run_it_can_report(length, is_name):
    app, version = ("x" * length, "1") if is_name else ("x", "1" * length)
    judged = judge(Info("host", "10.0.0.1", "1", json.dumps({app: version})), 0.0)
    if length <= MAX_TEXT:
        assert (judged.problem, judged.apps) == ("", parse_table(table(app, version)).apps_for("10.0.0.1"))
    else:
        with pytest.raises(BadTable, match=f"has {length} characters, of {MAX_TEXT} at most"):
            parse_table(table(app, version))
        assert f"has {length} characters, of {MAX_TEXT} at most" in judged.problem


@given(st.integers(1, 2 * MAX_IP))
def test_an_ip_is_as_long_as_said(length):
    judged = judge(Info("host", "1" * length, "1", "{}"), 0.0)
    if length <= MAX_IP:
        assert (judged.problem, judged.ip) == ("", "1" * length)
    else:
        assert judged.problem.startswith(f"its ip has {length} characters, of {MAX_IP} at most")
        assert judged.ip == ""


def test_too_many_apps_and_entries_are_told_by_how_many():
    apps = {f"a{number}": "1" for number in range(MAX_APPS + 1)}
    assert judge(Info("host", "10.0.0.1", "1", json.dumps(apps)), 0.0).problem == "it has 1,001 apps, of 1,000 at most"
    entries = [{"app": "a", "version": "1", "agentList": []}] * (MAX_ENTRIES + 1)
    with pytest.raises(BadTable, match="10,001 entries, of 10,000 at most"):
        parse_table(json.dumps(entries).encode())
