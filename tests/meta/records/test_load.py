"""Loading a records file: what is read, and that everything wrong in it is told with its path and line."""

# ruff: noqa: E501 (the tables of errors are read line by line)

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.record_sets import resolve
from meta.errors import RecordsError
from meta.records.files.load import load, parse, parse_data, parse_record, parse_selector
from meta.records.files.ops_meta_format import as_ours
from meta.records.model import Override, Record, RecordSet, Release, as_fields
from meta.records.selectors import Glob, Hosts, Label, Prefix

REPOSITORY = Path(__file__).parents[3]
RECORDED = json.loads((REPOSITORY / "tests/wire/go-meta.json").read_text())
DIGEST = "0123456789abcdef0123456789abcdef"
AGENT = "agents:\n  - name: a\n    version: 1.0.0\n    tarball: http://r/a\n"


def problems(text: str, file: str = "r.yaml") -> list[str]:
    with pytest.raises(RecordsError) as refused:
        parse(text, file)
    return str(refused.value).splitlines()


def without_places(problems: list[str]) -> list[str]:
    """Without what is shown of the line of a syntax error."""
    return [re.sub(r"(: not (?:YAML|JSON)) at column .*$", r"\1", problem) for problem in problems]


def test_a_records_file_says_what_it_means():
    loaded = parse(
        """
agents:
  - name: falcon-agent
    version: 1.10
    tarball: http://r/falcon
    md5: ~
    cmd: stop
    overrides:
      - {prefix: lg-, version: 1.0.11}
      - {glob: "lg-*.example", cmd: start, md5: ""}
      - {hosts: [h1, h2], tarball: "https://r/other"}
      - {label: env=staging, version: 2}
  - {name: b, version: 0x1F, tarball: http://r/b}
""",
        "r.yaml",
    )
    assert loaded.records == (
        Record(
            "falcon-agent",
            Release("1.10"),
            "http://r/falcon",
            cmd="stop",
            overrides=(
                Override(Prefix("lg-"), Release("1.0.11")),
                Override(Glob("lg-*.example"), md5_base="", cmd="start"),
                Override(Hosts(frozenset(("h1", "h2"))), tarball="https://r/other"),
                Override(Label("env=staging"), Release("2")),
            ),
        ),
        Record("b", Release("0x1F"), "http://r/b"),
    )
    assert (loaded.warnings, loaded.settings) == ((), None)


def test_a_tarball_may_be_a_list_of_which_the_first_is_asked_first():
    text = "agents:\n- name: a\n  version: 1\n  tarball: [http://one, http://two]\n  overrides: [{prefix: b, tarball: http://three}]\n"
    [record] = parse(text, "r.yaml").records
    assert (record.tarball, record.mirrors) == ("http://one", ("http://two",))
    assert [(d.tarball, d.mirrors) for h in "ab" for d in resolve(RecordSet(records=(record,)), h)] == [
        ("http://one", ("http://two",)),
        ("http://three", ()),
    ]
    assert parse(json.dumps({"agents": as_fields([record])}), "r.yaml").records == (record,)


NO_HOST = "no host: a hostname has only letters, digits, '.', '_' and '-'"


@pytest.mark.parametrize(
    ("bases", "line"),
    [("[]", "a list of 1 to 16"), ("[http://one, file:///x]", "agents[0].tarball[1]"), ("[[x]]", "must be text")],
)
def test_a_list_of_tarballs_is_checked_one_by_one(bases, line):
    [problem] = problems(f"agents:\n- name: a\n  version: 1\n  tarball: {bases}\n")
    assert line in problem


@pytest.mark.parametrize("version", ["1.10", "1e3", "0777", "2024-01-01", "true", "no", "0x1F", "1_000"])
def test_a_version_stays_the_text_that_was_written(version):
    assert parse(AGENT.replace("1.0.0", version), "r.yaml").records[0].release.version == version


def test_aliases_stand_for_what_they_name():
    text = "agents:\n- {name: a, version: &v 1.5, tarball: &t http://r}\n- {name: b, version: *v, tarball: *t}\n"
    assert [(r.release.version, r.tarball) for r in parse(text, "r.yaml").records] == [("1.5", "http://r")] * 2


def test_our_own_form_may_be_written_in_json():
    text = json.dumps({"agents": [{"name": "a", "version": "1", "tarball": "http://r", "overrides": []}]})
    assert parse(text, "r.json").records == parse(text, "r").records == (Record("a", Release("1"), "http://r"),)


def test_no_agents_must_be_said_in_so_many_words():
    assert parse("agents: []", "r.yaml").records == ()


def test_the_example_file_is_valid():
    assert load(REPOSITORY / "records.example.yaml").records


def test_what_a_records_file_shows_can_be_loaded_again():
    loaded = load(REPOSITORY / "records.example.yaml")
    assert parse(json.dumps(loaded.as_data()), "again.json").records == loaded.records


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["r.yaml: is empty; write `agents: []` if no agent is meant"]),
        ("# nothing\n", ["r.yaml: is empty; write `agents: []` if no agent is meant"]),
        ("~", ["r.yaml: is empty; write `agents: []` if no agent is meant"]),
        ("{}", ["r.yaml:1: agents is missing; write [] if no agent is meant"]),
        ("agent: []", ["r.yaml:1: agent: unknown key; did you mean agents?", "r.yaml:1: agents is missing; write `agents: []` if no agent is meant"]),
        ("agents:", ["r.yaml:1: agents: must be a list, not blank"]),
        ("agents: yes", ["r.yaml:1: agents: must be a list, not text"]),
        ("- a", ["r.yaml:1: must be a mapping, not a list"]),
        ("hello", ["r.yaml:1: must be a mapping, not text"]),
        ("agents: [a]", ["r.yaml:1: agents[0]: must be a mapping, not text"]),
        ("agents: []\nagents: []", ["r.yaml:2: agents: is given twice, first on line 1"]),
        ("agents: []\n---\nagents: []", ["r.yaml:2: a second document starts here; one file holds one"]),
        ("agents: [", ["r.yaml:1: not YAML"]),
        ("agents:\n\t- a", ["r.yaml:2: not YAML"]),
        ("agents: []\n# \x01", ["r.yaml:2: not YAML: character U+0001 is not allowed"]),
        ("agents: &a [*a]", ["r.yaml:1: alias *a contains itself"]),
        ("agents: [*b]", ["r.yaml:1: alias *b has no anchor before it"]),
        ("agents: " + "[" * 100000, ["r.yaml:1: nested more than 32 deep"]),
        ("agents: " + "{a: " * 500 + "[\n" * 1100, ["r.yaml:1: nested more than 32 deep"]),
        ("agents:\n- &a " + "[" * 1100, ["r.yaml:2: nested more than 32 deep"]),
        ("agents:\n" + "- " * 1100, ["r.yaml:2: nested more than 32 deep"]),
        ("agents: '" + "[" * 1100 + "', }", ["r.yaml:1: not YAML"]),
        ("agents: a # " + "[" * 1100 + "\n}", ["r.yaml:2: not YAML"]),
        ("agents:\n- ? [a]\n  : b\n  name: a\n  version: 1\n  tarball: http://r", ["r.yaml:2: agents[0]: a key must be text, not a list"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_a_file_that_is_no_list_of_agents_is_refused(text, expected, loader, monkeypatch):
    monkeypatch.setattr(
        yaml, "CSafeLoader", getattr(yaml, loader, yaml.SafeLoader), raising=False
    )  # with libyaml, and where PyYAML has none
    assert without_places(problems(text)) == expected


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("{}", ["2: agents[0]: name is missing", "2: agents[0]: version is missing", "2: agents[0]: tarball is missing"]),
        ("{name: , version: '', tarball: ~}", ["2: agents[0].name: name is blank", "2: agents[0].version: version is blank", "2: agents[0].tarball: tarball is blank"]),
        ("{name: a, version: 1, tarball: http://r, vresion: 2}", ["2: agents[0].vresion: unknown key; did you mean version?"]),
        ("{name: a, version: 1, tarball: http://r, <<: {md5: x}}", ["2: agents[0].<<: merge keys are not read; write the fields out"]),
        ("{name: a, version: 1, version: 2, tarball: http://r}", ["2: agents[0].version: is given twice, first on line 2"]),
        ("{name: a, version: [1], tarball: {a: b}}", ["2: agents[0].version: must be text, not a list", "2: agents[0].tarball: must be text, not a mapping"]),
        ("{name: a, version: 1, tarball: http://r, cmd: format}", ['2: agents[0].cmd: cmd "format" is not start or stop']),
        ("{name: a, version: 1, tarball: http://r, cmd: }", ['2: agents[0].cmd: cmd "" is not start or stop']),
        ("{name: ../../etc, version: 1, tarball: http://r}", ["2: agents[0].name: name \"../../etc\" is not 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"]),
        ("{name: a, version: $(id), tarball: http://r}", ["2: agents[0].version: version \"$(id)\" is not 1 to 64 letters, digits, '.', '_', '+', '~', '=' or '-', the first a letter or digit"]),
        ("{name: a, version: 1, tarball: 'file:///etc'}", ['2: agents[0].tarball: tarball "file:///etc" is not an http or https URL of a directory']),
        ("{name: a, version: 1, tarball: http://r, md5: abc}", ['2: agents[0].md5: md5 "abc" is neither blank, nor 32 hex digits, nor an http or https URL of a directory']),
        ("{name: a, version: 1, tarball: http://r, sha256: abc}", ['2: agents[0].sha256: sha256 "abc" is not 64 hex digits']),
        ("{name: a, version: 1, tarball: http://r, overrides: x}", ["2: agents[0].overrides: must be a list, not text"]),
    ],
)  # fmt: skip
def test_a_wrong_agent_is_refused(agent, expected):
    assert problems(f"agents:\n- {agent}\n") == [f"r.yaml:{problem}" for problem in expected]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("x", ": must be a mapping, not text"),
        ("{version: 2}", ": needs exactly one of prefix, glob, hosts, label; has none"),
        ("{prefix: a, hosts: [b], version: 2}", ": needs exactly one of prefix, glob, hosts, label; has prefix and hosts"),
        ("{prefix: a}", ": changes nothing; give one of version, tarball, md5, cmd, sha256, attempt, leftovers, unknownStatus, runUser, workDir"),
        ("{prefix: '', cmd: stop}", '.prefix: prefix is blank; to select every host write glob: "*"'),
        ("{glob: , cmd: stop}", '.glob: glob is blank; to select every host write glob: "*"'),
        ("{prefix: 'a b', cmd: stop}", f'.prefix: prefix "a b" fits {NO_HOST}'),
        ("{prefix: -b, cmd: stop}", f'.prefix: prefix "-b" fits {NO_HOST}'),
        ("{glob: '{a,b}*', cmd: stop}", f'.glob: glob "{{a,b}}*" fits {NO_HOST}'),
        ("{glob: '[', cmd: stop}", f'.glob: glob "[" fits {NO_HOST}'),
        ("{glob: 'a[!-.0-9A-Za-z_]', cmd: stop}", f'.glob: glob "a[!-.0-9A-Za-z_]" fits {NO_HOST}'),
        (
            "{glob: 'r7-*\u00a0', cmd: stop}",
            rf'.glob: glob "r7-*\u00a0" (ends with U+00A0 NO-BREAK SPACE) fits {NO_HOST}',
        ),
        ("{prefix: [a], cmd: stop}", ".prefix: must be text, not a list"),
        ("{hosts: h1, cmd: stop}", ".hosts: must be a list, not text"),
        ("{hosts: [], cmd: stop}", ".hosts: hosts is empty, so this override selects no host"),
        ("{hosts: [h1, 'a b'], cmd: stop}", ".hosts[1]: hostname \"a b\" is not 1 to 253 letters, digits, '.', '_' or '-', the first a letter or digit"),
        ("{hosts: [h1, [h2]], cmd: stop}", ".hosts[1]: must be text, not a list"),
        ("{label: , cmd: stop}", '.label: label is blank; to select every host write glob: "*"'),
        ("{label: env=, cmd: stop}", ".label: label \"env=\" is not KEY or KEY=VALUE, each 1 to 63 letters, digits, '.', '_' or '-'"),
        ("{label: a b, cmd: stop}", ".label: label \"a b\" is not KEY or KEY=VALUE, each 1 to 63 letters, digits, '.', '_' or '-'"),
        ("{label: a=b=c, cmd: stop}", ".label: label \"a=b=c\" is not KEY or KEY=VALUE, each 1 to 63 letters, digits, '.', '_' or '-'"),
        ("{label: [a], cmd: stop}", ".label: must be text, not a list"),
        ("{label: a, prefix: b, cmd: stop}", ": needs exactly one of prefix, glob, hosts, label; has prefix and label"),
        ("{prefix: a, cmd: restart}", '.cmd: cmd "restart" is not start or stop'),
        ("{prefix: a, version: }", ".version: version is blank"),
        ("{prefix: a, name: b, cmd: stop}", ".name: unknown key; known here: prefix, glob, hosts, label, version, tarball, md5, cmd, sha256, attempt, leftovers, unknownStatus, runUser, workDir"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_refused(override, expected):
    assert problems(f"{AGENT}    overrides:\n    - {override}\n") == [f"r.yaml:6: agents[0].overrides[0]{expected}"]


def test_the_same_agent_twice_is_refused():
    assert problems(AGENT + AGENT.removeprefix("agents:\n")) == [
        'r.yaml:5: agents[1]: agent "a" is given twice, first on line 2'
    ]


def test_all_problems_are_told_at_once_in_the_order_of_the_file():
    text = "agents:\n- name: a/b\n  version: 1\n  tarball: ftp://r\n- {}\n- name: ok\n  version: 1\n  tarball: http://r\n  cmd: x\n"
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["r.yaml:2", "agents[0].name"],
        ["r.yaml:4", "agents[0].tarball"],
        ["r.yaml:5", "agents[1]"],
        ["r.yaml:5", "agents[1]"],
        ["r.yaml:5", "agents[1]"],
        ["r.yaml:9", "agents[2].cmd"],
    ]


@pytest.mark.parametrize(
    "override",
    [f"{{prefix: x, md5: {DIGEST}}}", f"{{prefix: x, sha256: {DIGEST * 2}}}", "{prefix: x, cmd: stop, sha256: ''}"],
)
def test_a_digest_without_its_version_is_refused(override):
    key = "md5" if "md5" in override else "sha256"
    assert problems(AGENT + f"    md5: {DIGEST}\n    overrides: [{override}]\n") == [
        f"r.yaml:6: agents[0].overrides[0].{key}: {key} belongs to a version: give version with it"
    ]


@pytest.mark.parametrize(
    ("record", "override", "told"),
    [
        ("md5: D", "{prefix: x, version: 2}", ("", "")),
        ("sha256: S", "{prefix: x, version: 2, md5: D}", ("D", "")),
        ("md5: http://sums", "{prefix: x, version: 2}", ("http://sums", "")),
        ("md5: http://sums", "{prefix: x, version: 2, md5: http://other, sha256: S}", ("http://other", "S")),
        ("md5: http://sums", "{prefix: x, version: 2, md5: D}", ("D", "")),
        ("md5: http://sums", "{prefix: x, md5: ''}", ("", "")),
        ("md5: D", "{prefix: x, cmd: stop}", ("D", "")),
    ],
)
def test_a_version_replaces_the_digests_and_inherits_where_they_are(record, override, told):
    text = AGENT + f"    {record}\n    overrides: [{override}]\n"
    for short, long in ((" D", f" {DIGEST}"), (" S", f" {DIGEST * 2}")):
        text = text.replace(short, long)
    [desired] = resolve(RecordSet(records=parse(text, "r.yaml").records), "x1")
    assert (desired.md5, desired.sha256) == tuple({"D": DIGEST, "S": DIGEST * 2}.get(one, one) for one in told)


@pytest.mark.parametrize(
    ("overrides", "warned"),
    [
        (["{prefix: x, version: 2, md5: D}"], {0: "2 has the md5 of 1.0.0; give its own"}),
        (["{prefix: x, version: 1.0.0}"], {0: "1.0.0 has digests elsewhere in this record, and none here"}),
        (["{prefix: x, md5: http://sums}"], {0: "1.0.0 has an md5, which is checked here too"}),
        (["{prefix: x, version: 1.0.0, md5: D}"], {}),
        (["{prefix: x, version: 2}", "{prefix: y, version: 2, md5: http://sums}", "{prefix: z, cmd: stop}"], {}),
    ],
)
def test_a_digest_that_looks_forgotten_is_told(overrides, warned):
    text = AGENT + f"    md5: {DIGEST}\n    overrides:\n" + "".join(f"    - {override}\n" for override in overrides)
    warnings = parse(text.replace("D}", DIGEST.upper() + "}"), "r.yaml").warnings
    assert [one.partition(": ")[2].partition(": ")[0] for one in warnings] == [
        f"agents[0].overrides[{i}]" for i in warned
    ]
    assert all(words in one for words, one in zip(warned.values(), warnings, strict=True))


def test_a_digest_that_only_an_override_has_of_the_version_looks_forgotten():
    text = AGENT + f"    overrides:\n    - {{prefix: x, version: 1.0.0, md5: {DIGEST}}}\n"
    [warning] = parse(text, "r.yaml").warnings
    assert "agents[0]: 1.0.0 has digests elsewhere in this record, and none here" in warning


def test_the_same_key_twice_in_json_is_refused():
    text = '{"agents": [{"name": "a",\n"version": "1", "version": "2", "tarball": "http://r"}],\n"agents": []}'
    assert problems(text, "r.json") == [
        "r.json:2: agents[0].version: is given twice, first on line 2",
        "r.json:3: agents: is given twice, first on line 1",
    ]


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(RecordsError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(RecordsError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_file_that_is_not_utf8_is_refused_with_the_line(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_bytes(b"agents:\n- name: caf\xe9\n")
    with pytest.raises(RecordsError, match=r"r\.yaml:2: not UTF-8: byte 0xe9"):
        load(file)


def test_a_byte_order_mark_does_no_harm(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + AGENT.encode())
    assert load(file).records


def test_aliases_that_unfold_without_end_are_refused():
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 10))
    assert "more than 1000000 values" in problems(f"l0: &l0 [x]\n{levels}agents: []\n")[0]


# --- ops-meta's cfg.json ---


@pytest.mark.parametrize("indent", [None, 4, "\t"])
@pytest.mark.parametrize("name", ["cfg.json", "records"])
def test_the_recorded_configuration_is_loaded_as_it_is(indent, name):
    loaded = parse(json.dumps(RECORDED["config"], indent=indent), name)
    assert loaded.records == (
        Record(
            "falcon-agent",
            Release("0.0.1"),
            "http://11.11.11.11:8888/falcon",
            overrides=(Override(Prefix("lg-falcon"), Release("1.0.0")), Override(Prefix("lg-dinp"), Release("1.0.1"))),
        ),
        Record("dinp-agent", Release("0.0.1"), "http://11.11.11.11:8888/dinp"),
    )
    assert loaded.warnings == ()
    assert loaded.settings is not None
    assert (loaded.settings.tarball_dir, loaded.settings.listen) == ("./tarball", "127.0.0.1:2000")


def legacy(*agents: object) -> str:
    return json.dumps({"agents": agents}, indent=1)


DEFAULT = {"name": "a", "version": "1", "tarball": "http://r", "md5": "", "cmd": "start"}


def test_go_keys_match_in_any_case_and_null_is_blank():
    text = legacy({"Default": {k.upper(): v for k, v in DEFAULT.items()} | {"md5": None}, "others": None})
    loaded = parse(text, "cfg.json")
    assert loaded.records == (Record("a", Release("1"), "http://r"),)


def test_what_ops_meta_ignores_is_ignored_and_told():
    loaded = parse(legacy({"others": []}, {"default": DEFAULT | {"verison": "2"}, "others": [{}]}), "cfg.json")
    assert loaded.records == (Record("a", Release("1"), "http://r", overrides=(Override(Prefix("")),)),)
    assert loaded.warnings == (
        "cfg.json:3: agents[0]: has no default; skipped, as ops-meta does",
        "cfg.json:13: agents[1].default.verison: unknown key; did you mean version?; ignored, as ops-meta does",
        "cfg.json:16: agents[1].others[0]: changes nothing",
        "cfg.json:16: agents[1].others[0]: has no prefix, so it is for every host",
    )


def test_an_inherited_digest_of_another_version_is_only_told():
    loaded = parse(
        legacy({"default": DEFAULT | {"md5": DIGEST}, "others": [{"prefix": "x", "version": "2"}]}), "cfg.json"
    )
    assert [warning.split(": ", 2)[2] for warning in loaded.warnings] == ["2 has the md5 of 1; give its own"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "cfg.json: is empty; write `agents: []` if no agent is meant"),
        ('{"agents": [', "cfg.json:1: not JSON"),
        ('{\n"agents": [],\n]', "cfg.json:2: not JSON"),
        ('{"agents": NaN}', "cfg.json: not JSON: NaN is no value"),
        ('{"debug": true}', "cfg.json:1: agents is missing; write [] if no agent is meant"),
        ('{"agents": null}', "cfg.json:1: agents is missing; write [] if no agent is meant"),
        ('{"agents": {}}', "cfg.json:1: agents: must be a list, not a mapping"),
        ('{"agents": [], "debug": 1}', "cfg.json:1: debug: must be true or false"),
        ('{"agents":' + "[" * 100000 + "]" * 100000 + "}", "cfg.json:1: nested more than 32 deep"),
        ('{"agents":' + "[" * 40 + "]" * 40 + "}", "cfg.json:1: nested more than 32 deep"),
        (legacy({"default": DEFAULT | {"version": 1.0}}), "cfg.json:6: agents[0].default.version: must be a string in quotes"),
        (legacy({"default": DEFAULT | {"cmd": ""}}), 'cfg.json:9: agents[0].default.cmd: cmd "" is not start or stop'),
        (legacy({"default": {k: v for k, v in DEFAULT.items() if k != "tarball"}}), "cfg.json:4: agents[0].default: tarball is blank"),
        (legacy({"default": DEFAULT}, {"default": DEFAULT}), 'cfg.json:13: agents[1].default: agent "a" is given twice, first on line 4'),
        (legacy({"default": DEFAULT, "others": [{"prefix": "x", "cmd": "x"}]}), 'cfg.json:14: agents[0].others[0].cmd: cmd "x" is not start or stop'),
    ],
)  # fmt: skip
def test_a_cfg_json_that_no_host_could_follow_is_refused(text, expected):
    assert without_places(problems(text, "cfg.json")) == [expected]


def test_what_ops_meta_orders_can_be_spelled_in_our_own_form():
    others = [{"prefix": "", "version": "2"}, {"prefix": "x"}, {"prefix": "y", "cmd": "stop"}]
    loaded = parse(legacy({"default": DEFAULT, "others": others}), "cfg.json")
    ours = as_ours(loaded.records)
    assert ours == (
        Record(
            "a",
            Release("1"),
            "http://r",
            overrides=(Override(Glob("*"), Release("2")), Override(Prefix("y"), cmd="stop")),
        ),
    )
    assert parse_data({"agents": as_fields(ours)}, "body").records == ours
    both = [RecordSet(records=records) for records in (ours, loaded.records)]
    assert [resolve(both[0], host) for host in ("x1", "y1", "z")] == [
        resolve(both[1], host) for host in ("x1", "y1", "z")
    ]


# --- JSON that is already decoded ---

RECORD = {"name": "a", "version": "1", "tarball": "http://r"}


def refused(parsed, *arguments) -> list[str]:
    with pytest.raises(RecordsError) as refusal:
        parsed(*arguments)
    return str(refusal.value).splitlines()


def test_decoded_json_says_the_same_as_a_file():
    data = json.loads(json.dumps(load(REPOSITORY / "records.example.yaml").as_data()))
    assert parse_data(data, "body").records == load(REPOSITORY / "records.example.yaml").records


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, ["body: must be a mapping, not blank"]),
        ([], ["body: must be a mapping, not a list"]),
        ({}, ["body: agents is missing; write `agents: []` if no agent is meant"]),
        ({"agents": 5}, ["body: agents: must be a list, not a number"]),
        ({"agents": [True]}, ["body: agents[0]: must be a mapping, not true or false"]),
        ({"agents": [RECORD | {"version": 1.10}]}, ["body: agents[0].version: must be text, not a number"]),
        ({"agents": [RECORD | {"version": 2**63}]}, ["body: agents[0].version: must be text, not a number"]),
        ({"agents": [RECORD | {"md5": float("nan")}]}, ["body: agents[0].md5: must be text, not a number"]),
        ({"agents": [RECORD | {"cmd": False}]}, ["body: agents[0].cmd: must be text, not true or false"]),
        ({"agents": [RECORD, RECORD]}, ['body: agents[1]: agent "a" is given twice, first as agents[0]']),
        ({"agents": [RECORD | {"\ud800": "x"}]}, [r'body: agents[0].\ud800: unknown key "\ud800" (ends with U+D800)' "; known here: name, version, tarball, md5, cmd, sha256, attempt, leftovers, unknownStatus, runUser, workDir, overrides"]),
        ({"agents": [RECORD | {"name": "';drop table host;--"}]}, ["body: agents[0].name: name \"';drop table host;--\" is not 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"]),
        ({"agents": [RECORD | {"overrides": [{"prefix": "x", "md5": DIGEST}]}]}, ["body: agents[0].overrides[0].md5: md5 belongs to a version: give version with it"]),
        ({"agents": [RECORD | {"overrides": [{"prefix": "", "version": "2"}]}]}, ['body: agents[0].overrides[0].prefix: prefix is blank; to select every host write glob: "*"']),
    ],
)  # fmt: skip
def test_decoded_json_is_refused_in_the_words_of_a_file(data, expected):
    assert refused(parse_data, data, "body") == expected


def test_decoded_json_that_is_nested_without_end_is_refused():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert refused(parse_data, {"agents": deep}, "body") == ["body: nested more than 32 deep"]
    while deep:
        deep = deep.pop()  # or Python's own end of it would be as deep


def test_one_record_is_that_of_a_file():
    assert parse_record(RECORD, "body") == Record("a", Release("1"), "http://r")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"name": "a", "tarball": "http://r", "vresion": "1"}, ["body: vresion: unknown key; did you mean version?", "body: version is missing"]),
        ({"version": "1", "tarball": "http://r"}, ["body: name is missing"]),
        ([RECORD], ["body: must be a mapping, not a list"]),
        ("x", ["body: must be a mapping, not text"]),
        ({"name": "a/b", "version": "1", "tarball": "http://r"}, ["body: name: name \"a/b\" is not 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"]),
    ],
)  # fmt: skip
def test_one_wrong_record_is_refused(data, expected):
    assert refused(parse_record, data, "body") == expected


@pytest.mark.parametrize(
    ("text", "data", "selector"),
    [
        ("prefix:lg-", {"prefix": "lg-"}, Prefix("lg-")),
        ("glob:*.x", {"glob": "*.x"}, Glob("*.x")),
        ("hosts:h1,h2", {"hosts": ["h1", "h2"]}, Hosts(frozenset(("h1", "h2")))),
        ("label:env=staging", {"label": "env=staging"}, Label("env=staging")),
    ],
)
def test_a_selector_alone_is_text_or_data(text, data, selector):
    assert parse_selector(text, "--for") == parse_selector(data, "--for") == selector


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("lg-", ["--for: a selector is written prefix:NAME, glob:NAME, hosts:NAME or label:KEY=VALUE"]),
        ("prefix:", ['--for: prefix: prefix is blank; to select every host write glob: "*"']),
        ("hosts:h1,", ["--for: hosts[1]: hostname \"\" is not 1 to 253 letters, digits, '.', '_' or '-', the first a letter or digit"]),
        ({"prefix": "a", "label": "b"}, ["--for: needs exactly one of prefix, glob, hosts, label; has prefix and label"]),
        ({"hosts": []}, ["--for: hosts: hosts is empty, so this override selects no host"]),
        (5, ["--for: must be a mapping, not a number"]),
    ],
)  # fmt: skip
def test_a_wrong_selector_is_refused(data, expected):
    assert refused(parse_selector, data, "--for") == expected


# --- any text at all ---

WORDS = [
    "agents",
    "name",
    "version",
    "tarball",
    "overrides",
    "prefix",
    "hosts",
    "default",
    "others",
    "http://r",
    "&a",
    "*a",
    "<<",
    "~",
]
PIECES = st.sampled_from([*WORDS, "a", "1", ": ", "- ", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ",", '"', "'", "!!str ", "? ", "|\n", "\t", "\\", "#"])  # fmt: skip
FILES = st.sampled_from(["r.yaml", "cfg.json"])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=4), inner, max_size=4),
)  # fmt: skip


@given(st.text() | st.lists(PIECES, max_size=40).map("".join) | JSON.map(json.dumps), FILES)
@example('{"agents": [{"name": "\\ud800"}], "\\udfff": 1}', "cfg.json")
@example("{" * 2000, "cfg.json")
@example("\ufeff\ufeff", "r.yaml")
def test_any_text_is_loaded_or_refused_with_reasons(text, file):
    try:
        loaded = parse(text, file)
    except RecordsError as e:
        assert e.problems
        str(e).encode()
    else:
        json.dumps(loaded.as_data())


@given(JSON)
@example({"agents": [{"name": "\ud800", "overrides": [{"hosts": ["\udfff"]}]}]})
def test_any_data_is_read_or_refused_with_reasons(data):
    for read in (parse_data, parse_record, parse_selector):
        try:
            read(data, "body")
        except RecordsError as e:
            assert e.problems
            str(e).encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_loaded_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("records") / "r.yaml"
    file.write_bytes(content)
    try:
        load(file)
    except RecordsError as e:
        assert e.problems


def parsers():
    """The one of libyaml, where it is there, and the one in Python."""
    return [getattr(yaml, "CSafeLoader", yaml.SafeLoader), yaml.SafeLoader]


WRONG_YAML = {
    "agents: [": '1: not YAML at column 10 (the [ of line 1 is not closed, or a comma is missing): "agents: [", at its end',
    "a:\n\t- b": '2: not YAML at column 1 (a tab, where only blanks may stand): "\\t- b" (with U+0009 TABULATION)',
    "a: 'x\ny: 1\n": '2: not YAML at column 5 (the \' of line 1 is not closed): "y: 1", at its end',
    'a: "b\\q"': "1: not YAML at column 7 (no such escape in double quotes; a backslash itself is written \\\\, or in single "
    """quotes): "a: "b\\q"", from "q"" on""",
    "a: b: c": "1: not YAML at column 5 (a second `: ` in one line; a value that holds one must be in quotes): "
    '"a: b: c", from ": c" on',
    "a: b\n  c: d\n": '2: not YAML at column 4 (its indentation does not fit the lines above it): "c: d", from ": d" on',
    "a:\n  - b\n c: d\n": '3: not YAML at column 2 (its indentation does not fit the lines above it): "c: d"',
    "g: *.example\n": '1: not YAML at column 5 (what begins with * must be in quotes): "g: *.example", from ".example" on',
    "a: @x": '1: not YAML at column 4 (what begins with @ must be in quotes): "a: @x", from "@x" on',
    "a: ]": '1: not YAML at column 4 (nothing is open that it could close): "a: ]", from "]" on',
    "key\nb: 1\n": '2: not YAML at column 2 (line 1 has no `: `): "b: 1", from ": 1" on',
    "a: 'x' y\n": '1: not YAML at column 8 (text goes on behind a closing quote): "a: \'x\' y", from "y" on',
    "a: - b\n": '1: not YAML at column 4 (the entries of a list begin on lines of their own): "a: - b", from "- b" on',
    "a: b\r\nc: d: e\r\n": "2: not YAML at column 5 (a second `: ` in one line; a value that holds one must be in quotes): "
    '"c: d: e", from ": e" on',
    "# \u00e9\u00e9\n# \x01": "2: not YAML: character U+0001 is not allowed",
    "a: \ufeff": "1: not YAML: character U+FEFF is not allowed",
}


@pytest.mark.parametrize("parser", parsers())
@pytest.mark.parametrize("text", WRONG_YAML)
def test_what_is_wrong_with_yaml_is_said_in_our_words_whichever_parser_is_there(monkeypatch, parser, text):
    monkeypatch.setattr(yaml, "CSafeLoader", parser, raising=False)
    assert problems(text) == [f"r.yaml:{WRONG_YAML[text]}"]


@given(st.text(st.sampled_from("ab:-[]{}'\"#&*!|>%@`,? \t\n"), max_size=30))
@settings(max_examples=300)
def test_no_words_of_a_parser_are_shown_whatever_the_text(text):
    for problem in problems(f"agents:\n- {text}"):
        assert not re.search(r"found|did not|could not|token|while|scann|pars|expected", problem), problem


def test_a_long_line_is_cut_around_the_place():
    [problem] = problems("x: " + "y" * 5000 + ": z" + "w" * 5000)
    assert problem.startswith("r.yaml:1: not YAML at column 5004 (a second `: ` in one line")
    assert len(problem) < 300


WRONG_JSON = {
    '{"agents": [': '1: not JSON at column 13 (the [ of line 1 is not closed): "{"agents": [", at its end',
    '{\n"agents": [],\n}': """2: not JSON at column 13 (a comma, and nothing behind it): ""agents": [],", from "," on""",
    "{'a': 1}": """1: not JSON at column 2 (quotes are double in JSON): "{'a': 1}", from "'a': 1}" on""",
    '{"a": 1\n"b": 2}': """2: not JSON at column 1 (a comma or a colon is missing before it): ""b": 2}\"""",
    '{"a" 1}': """1: not JSON at column 6 (a comma or a colon is missing before it): "{"a" 1}", from "1}" on""",
    '{"a: 1}': """1: not JSON at column 2 (a quote that is not closed on its line): "{"a: 1}", from ""a: 1}" on""",
    '{"a":,}': """1: not JSON at column 6 (a value is missing before it): "{"a":,}", from ",}" on""",
    '{"a": yes}': """1: not JSON at column 7 (text needs double quotes): "{"a": yes}", from "yes}" on""",
    '{"a": 1} x': """1: not JSON at column 10 (there is more behind the end): "{"a": 1} x", from "x" on""",
    '{"a": 1 # x\n}': """1: not JSON at column 9 (JSON has no comments): "{"a": 1 # x", from "# x" on""",
}


@pytest.mark.parametrize("text", WRONG_JSON)
def test_what_is_wrong_with_json_is_said_in_our_words(text):
    assert problems(text, "cfg.json") == [f"cfg.json:{WRONG_JSON[text]}"]
