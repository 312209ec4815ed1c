"""Names that are not there: a sentence with the nearest one and exit code 1, never an empty list that looks like an answer."""

import json

import pytest


@pytest.fixture(scope="module")
def boss(server, boss):
    boss("set", "falcon", "version=1.0.0", "tarball=http://r.example/falcon")
    server.beat("web-1", falcon="1.0.0", foreign="7")
    server.beat("web-2", falcon="1.0.0")
    boss("label", "web-1", "env=staging", "--yes")
    return boss


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["history", "flacon"], 'there is no agent "flacon"; did you mean falcon?'),
        (["history", "flacon", "-o", "json"], 'there is no agent "flacon"; did you mean falcon?'),
        (["hosts", "--agent", "foregin"], 'there is no agent "foregin"; did you mean foreign?'),
        (["hosts", "--agent", "flacon", "--drift", "-o", "json"], 'there is no agent "flacon"; did you mean falcon?'),
        (["status", "flacon"], "there is no agent flacon; did you mean falcon?"),
        (["get", "flacon"], "there is no agent flacon; did you mean falcon?"),
        (["unset", "flacon"], "there is no agent flacon; did you mean falcon?"),
        (["hosts", "--label", "evn"], 'no host has a label "evn"; did you mean env?'),
        (["hosts", "--label", "rack"], 'no host has a label "rack"; there are env'),
        (["hosts", "--label", "env=prod"], 'no host has the label "env=prod"; there are env=staging'),
        (["host", "wbe-1"], "no host wbe-1 has reported; did you mean web-1?"),
        (["retire", "web-11"], "no host web-11 has reported; did you mean web-1?"),
        (["token", "revoke", "77"], "there is no token 77, or it is revoked already"),
        (["token", "revoke-host", "web-1"], "web-1 has no token"),
        (["ban", "flacon", "9", "--why", "x"], 'there is no agent "flacon"; did you mean falcon?'),
        (["rollback", "--agent", "flacon"], "there is no agent flacon; did you mean falcon?"),
        (["unban", "falcon", "9"], "version 9 of falcon is not banned"),
        (["rollback", "--agent", "foreign"], "there is no agent foreign"),
        (
            ["unset", "falcon", "--for", "prefix:none"],
            "falcon [prefix none]: there is no such override; there are: none",
        ),
        (["unset", "flacon", "md5"], 'there is no agent "flacon"; did you mean falcon?'),
        (["set", "flacon", "version=2", "--for", "prefix:a"], 'there is no agent "flacon"; did you mean falcon?'),
        (["label", "wbe-1", "x=1"], "no host wbe-1 has reported; did you mean web-1?"),
        (["label", "web-1", "wbe-2", "x-"], "no host wbe-2 has reported; did you mean web-2?"),
        (["retry", "falcon", "--for", "hosts:wbe-1"], "no host wbe-1 has reported; did you mean web-1?"),
        (["retry", "falcon", "--for", "prefix:db-"], "no host that has reported matches prefix db-"),
        (["status", "falcon", "--for", "hosts:wbe-1"], "no host wbe-1 has reported; did you mean web-1?"),
        (["retry", "flacon"], "there is no agent flacon; did you mean falcon?"),
    ],
)
def test_a_name_that_is_not_there_is_an_error_with_the_nearest_one(boss, words, sentence):
    assert boss(*words, code=1) == f"meta: {sentence}\n"


def test_the_table_of_a_status_counts_the_hosts_that_it_is_asked_for(boss):
    def rows(*words):
        counts = boss.json("status", "falcon", *words)["counts"]
        return {one["version"]: one["hosts"] for one in counts}

    assert rows() == {"1.0.0": 2}
    assert rows("--for", "hosts:web-1") == {"1.0.0": 1}
    assert rows("--for", "label:env=staging") == {"1.0.0": 1}
    assert rows("--for", "prefix:db-") == {}
    lines = boss("status", "falcon", "--for", "hosts:web-1").splitlines()
    [row] = [line for line in lines if line.startswith("1.0.0")]
    assert row.split()[2] == "1"
    assert "no record orders this agent" in boss("status", "foreign", "--for", "hosts:web-2")


def test_a_revision_that_is_not_there_is_an_error_with_the_last_one(boss):
    last = boss.json("history", "--limit", "1")["items"][0]["number"]
    for words in (["rollback", "9999"], ["rollback", "9999", "--agent", "falcon"]):
        assert boss(*words, code=1) == f"meta: there is no revision 9999; the last is {last}\n"


def test_a_watch_of_a_name_that_is_not_there_is_wrong_use(boss):
    said = boss("status", "falcon", "--watch", "--for", "hosts:wbe-1", code=2)
    assert said == "meta: no host wbe-1 has reported; did you mean web-1?\n"


def test_a_host_is_labelled_before_it_reports_where_that_is_said(boss):
    assert boss("label", "new-1", "rack=r9", "--unseen").startswith("done: revision ")
    assert boss("label", "new-1", "rack-").startswith("done: revision ")  # it is known by its label now
    assert "no host new-1 has reported" in boss("label", "new-1", "rack-", code=1)


@pytest.mark.long
def test_what_is_banned_is_no_wrong_use(boss):
    boss("ban", "falcon", "6.6.6", "--why", "leaks")
    refused = boss("set", "falcon", "version=6.6.6", code=1)
    assert refused == (
        "meta: falcon: version 6.6.6 is banned by boss (leaks); give another one, or first: meta unban falcon 6.6.6\n"
    )
    assert boss("unban", "falcon", "6.6.7", code=1) == "meta: version 6.6.7 of falcon is not banned; of it are: 6.6.6\n"
    boss("unban", "falcon", "6.6.6")


def test_an_agent_to_be_made_under_a_name_like_another_is_asked_about_too(boss):
    assert "a new agent needs it; did you mean falcon?" in boss("set", "flacon", "version=1.0.1", code=2)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hosts", "--drift"], "every host is as desired"),
        (["hosts", "--drift", "--agent", "falcon"], "every host that matches --agent falcon is as desired"),
        (["hosts", "--drift", "--name", "db-*"], "no host matches --name 'db-*'"),
        (["hosts", "--failed"], "no change has failed on any host"),
        (["hosts", "--version", "9"], "no host matches --version 9"),
        (["hosts", "--state", "retired"], "no host matches --state retired"),
        (["history", "falcon", "--before", "1"], "nothing of falcon was changed before revision 1"),
    ],
)
def test_a_question_with_a_true_answer_is_no_error(boss, words, sentence):
    done = boss.run(*words)
    assert (done.returncode, done.stdout + done.stderr) == (0, f"{sentence}\n")


def test_an_agent_that_hosts_alone_know_is_known(boss):
    assert [host["name"] for host in boss.json("hosts", "--agent", "foreign")["items"]] == ["web-1"]
    assert boss("history", "foreign") == "nothing of foreign was changed yet\n"


@pytest.mark.long
def test_a_deleted_agent_still_has_its_history(boss):
    boss("set", "gone", "version=1.0.0", "tarball=http://r.example/gone", "--yes")
    boss("unset", "gone", "--yes")
    assert boss.json("history", "gone")["items"][0]["action"] == "unset"
    number = boss.json("history", "gone")["items"][-1]["number"]
    assert boss("history", "gone", "--before", str(number)).startswith("nothing of gone was changed before")


def test_what_is_explained_of_a_host_that_never_reported_says_so(boss):
    done = boss.run("explain", "web-3")
    assert done.returncode == 0
    assert done.stderr == "note: no host web-3 has reported; did you mean web-2?\n"
    assert boss.run("explain", "web-1").stderr == ""


@pytest.mark.long
def test_failures_are_shown_by_reason_with_one_host_and_old_ones_are_not(boss_alone):
    boss, server = boss_alone, boss_alone.server
    for host in ("web-1", "web-2"):
        server.beat(host)
    boss("set", "moni", "version=1.0.0", "tarball=http://r.example/moni", "--yes")

    def tell(host, to, reason):
        outcome = {"agent": "moni", "from": "1.0.0", "to": to, "step": "watch", "result": "rolled back", "at": 5}
        agents = [{"name": "moni", "version": "1.0.0", "status": "started"}]
        report = {"hostname": host, "realAgents": agents, "outcomes": [outcome | {"reason": reason}]}
        assert server.ask("POST", "/heartbeat", json.dumps(report)).status == 200

    boss("set", "moni", "version=1.0.1", "--yes")
    for host, seconds in (("m-1", 3), ("m-2", 4)):
        tell(host, "1.0.1", f"died {seconds} s after its start")
    shown = boss("status", "moni").splitlines()
    assert shown[-3] == "2 to do, 2 failed"
    assert shown[-1].startswith("  1.0.1 rolled back on 2 hosts: died 4 s after its start (last: m-2, 1970-")
    listed = boss("hosts", "--failed").splitlines()
    assert listed[0].split()[-2:] == ["FAILED", "LABELS"]
    assert [line.split()[0] for line in listed[1:]] == ["m-1", "m-2"]
    assert "moni 1.0.1 rolled back: died 3 s after its start" in listed[1]
    counts = boss.json("status", "moni")["counts"]
    assert [(one["version"], one["hosts"], one["failed"]) for one in counts] == [("1.0.0", 2, 2)]
    [line] = [one for one in boss.json("status")["agents"] if one["agent"] == "moni"]
    assert (line["hosts"], line["toGo"], line["trial"], line["failed"]) == (2, 4, 0, 2)
    assert [row.split()[-3:] for row in boss("status").splitlines() if row.startswith("moni ")] == [["4", "-", "2"]]
    [failure] = boss.json("status", "moni")["progress"]["failures"]
    assert (failure["hosts"], failure["example"], failure["version"]) == (2, "m-2", "1.0.1")

    boss("set", "moni", "version=1.0.2", "--yes")
    assert "failed" not in boss("status", "moni")
    assert boss.json("hosts", "--failed")["items"] == []
