"""Messages show the character that they complain about, and a file in UTF-16 is told from a broken one."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meta.bridges.elves import settings
from meta.bridges.elves.app_table import BadTable, parse_table
from meta.bridges.elves.rabbitmq import messages
from meta.bridges.elves.translator import Info, judge
from meta.cli import variables
from meta.cli.arguments import fields_of, labels_of, seconds, selector_of
from meta.cli.client import Client
from meta.cli.environment import token
from meta.cli.steps.first_token import write
from meta.cli.steps.publishing import split
from meta.errors import Misconfigured as MetaMisconfigured
from meta.errors import RecordsError
from meta.records.files.load import decode, load, parse
from meta.records.selectors import label_problem
from meta.records.validate import run_user_problem, value_problem, why_problem, work_dir_problem
from meta.settings import read
from meta.store import Store
from updater.errors import Misconfigured
from updater.host.config import load as load_config
from updater.net.credentials import Credentials
from updater.wire.names import hostname_problem, md5_problem, name_problem, sha256_problem, version_problem
from updater.wire.text import (
    UTF_16,
    UTF_32,
    encoding_problem,
    file_name,
    indented_line,
    one_line,
    plain,
    quoted,
    visible,
)
from updater.wire.urls import base_problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.0", '"1.0"'),
        ("a b", '"a b"'),
        ("$(id)", '"$(id)"'),
        ("1.0\n", r'"1.0\n" (ends with U+000A LINE FEED)'),
        ("1.0\r\n", r'"1.0\r\n" (with U+000D CARRIAGE RETURN, U+000A LINE FEED)'),
        ("1.0 ", '"1.0 " (ends with U+0020 SPACE)'),
        ("falcon\xa0agent", r'"falcon\u00a0agent" (with U+00A0 NO-BREAK SPACE)'),
        ("1\u200b.0", r'"1\u200b.0" (with U+200B ZERO WIDTH SPACE)'),
        ("\ufeffa", r'"\ufeffa" (with U+FEFF ZERO WIDTH NO-BREAK SPACE)'),
        ("\u202ea", r'"\u202ea" (with U+202E RIGHT-TO-LEFT OVERRIDE)'),
        ("fаlcon", '"fаlcon" (with U+0430 CYRILLIC SMALL LETTER A)'),
        ("a–b", '"a–b" (with U+2013 EN DASH)'),
        ("a\x07b", r'"a\u0007b" (with U+0007 CONTROL)'),
        ("e\u0301", '"e\u0301" (ends with U+0301 COMBINING ACUTE ACCENT)'),
        ("a\u0323\u0302b", '"a\u0323\u0302b" (with U+0323 COMBINING DOT BELOW, U+0302 COMBINING CIRCUMFLEX ACCENT)'),
        (
            "\u0e17\u0e35\u0e48",
            '"\u0e17\u0e35\u0e48" (with U+0E17 THAI CHARACTER THO THAHAN, U+0E35 THAI CHARACTER SARA II,'
            " U+0E48 THAI CHARACTER MAI EK)",
        ),
        ("\u0301e", r'"\u0301e" (with U+0301 COMBINING ACUTE ACCENT)'),
        ("\u0e35x", r'"\u0e35x" (with U+0E35 THAI CHARACTER SARA II)'),
        ("-\u0301", r'"-\u0301" (ends with U+0301 COMBINING ACUTE ACCENT)'),
        ("a\u200b\u0301", r'"a\u200b\u0301" (with U+200B ZERO WIDTH SPACE, U+0301 COMBINING ACUTE ACCENT)'),
        ("a\u0301\u202eb", '"a\u0301\\u202eb" (with U+0301 COMBINING ACUTE ACCENT, U+202E RIGHT-TO-LEFT OVERRIDE)'),
        ("a\ufe0f", r'"a\ufe0f" (ends with U+FE0F VARIATION SELECTOR-16)'),
        ("a" + "\u0301" * 5, '"a' + "\u0301" * 4 + r'\u0301" (with U+0301 COMBINING ACUTE ACCENT)'),
        ("", '""'),
    ],
)
def test_what_cannot_be_seen_is_escaped_and_named(text, expected):
    assert quoted(text) == expected


def test_a_long_text_without_anything_odd_is_shown_whole_and_an_odd_one_is_quoted():
    path = "/" + "x" * 300
    assert plain(path) == path
    assert plain("/x\u200b") == r'"/x\u200b" (ends with U+200B ZERO WIDTH SPACE)'


@given(st.text())
def test_whatever_a_text_is_it_is_shown_on_one_line_that_can_be_printed(text):
    assert quoted(text).isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\tc\r\n", "a b c"),
        (" 1\xa0", r"1\u00a0"),
        ("a\u200bb\x1b[31m", r"a\u200bb\u001b[31m"),
        ("\udcff", r"\xff"),
        ("\u202e" * 9, r"\u202e\u202e\u202e\u"),
        ("Zoë", "Zoë"),
    ],
)
def test_on_one_line_what_cannot_be_seen_is_escaped(text, expected):
    assert one_line(text, 20) == expected
    assert indented_line(f"  {text}", 22) == f"  {expected}" or text.startswith(" ")


@given(st.text())
def test_lines_stay_lines_when_all_is_made_visible(text):
    shown = visible(text)
    assert shown.count("\n") == text.count("\n")
    assert shown.replace("\n", "").isprintable()


def test_the_name_of_a_file_is_shown_as_it_is_in_any_language_and_else_as_a_whole():
    assert file_name("/srv/Zoë.yaml") == "/srv/Zoë.yaml"
    assert file_name("/srv/Zoe\u0308.yaml") == "/srv/Zoe\u0308.yaml"
    assert file_name("Zoe\u0308\u200b") == (
        '"Zoe\u0308\\u200b" (with U+0308 COMBINING DIAERESIS, U+200B ZERO WIDTH SPACE)'
    )
    assert file_name("\u0308x") == r'"\u0308x" (with U+0308 COMBINING DIAERESIS)'
    path = "/x" * 200
    assert file_name(f"{path}\n") == rf'"{path}\n" (ends with U+000A LINE FEED)'


N, Z = "\xa0", "\u200b"
OPERATOR = {"kind": "operator", "role": "viewer"}
NO_BREAK, NO_WIDTH = "U+00A0 NO-BREAK SPACE", "U+200B ZERO WIDTH SPACE"


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        (lambda: fields_of([f"version{N}=2"]), r'"version\u00a0" (ends with U+00A0 NO-BREAK SPACE) is no field'),
        (lambda: selector_of(f"prefix{N}:web-"), r'"prefix\u00a0" (ends with U+00A0 NO-BREAK SPACE) selects nothing'),
        (lambda: selector_of(f"web{N}"), r'"web\u00a0" (ends with U+00A0 NO-BREAK SPACE) does not say how'),
        (lambda: selector_of(f"prefix:web-{N}"), r'prefix "web-\u00a0" (ends with U+00A0 NO-BREAK SPACE) fits no host'),
        (lambda: selector_of(f"glob:w*{N}"), r'glob "w*\u00a0" (ends with U+00A0 NO-BREAK SPACE) fits no host'),
        (lambda: labels_of([f"env{N}"]), r'"env\u00a0" (ends with U+00A0 NO-BREAK SPACE) is neither'),
        (lambda: labels_of([f"env{Z}-"]), r'label "env\u200b" (ends with U+200B ZERO WIDTH SPACE) is not'),
        (lambda: Client(f"http://me{Z}ta:1"), r'not "http://me\u200bta:1" (with U+200B ZERO WIDTH SPACE)'),
        (
            lambda: write("sqlite:///x.db", OPERATOR | {"name": f"al{Z}ice"}),
            r'name: "al\u200bice" (with U+200B ZERO WIDTH',
        ),
        (lambda: Client(f"http://127.0.0.1:32100{Z}"), r'not "http://127.0.0.1:32100\u200b" (ends with U+200B ZERO'),
        (lambda: split(f"my-agent{Z}-1.0.0.tar.gz", []), r'this is "my-agent\u200b-1.0.0.tar.gz" (with U+200B ZERO'),
        (lambda: seconds(f"90d{N}"), r'"90d\u00a0" (ends with U+00A0 NO-BREAK SPACE) is no duration'),
        (
            lambda: Store(f"sqlite:///x.db{N}"),
            r'"sqlite:///x.db\u00a0" (ends with U+00A0 NO-BREAK SPACE) has an invisible',
        ),
    ],
)
def test_what_is_wrong_with_an_argument_is_in_plain_sight(argument, told):
    with pytest.raises(MetaMisconfigured) as raised:
        argument()
    assert told in str(raised.value)


def test_a_password_is_not_shown_with_a_database_that_cannot_be_meant():
    with pytest.raises(MetaMisconfigured) as raised:
        Store(f"postgresql://meta:hunter2@host/meta{N}")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f'retireAfter: "30{N}d"', rf', not "30\u00a0d" (with {NO_BREAK})'),
        (f'maxHosts: "3{Z}"', rf', not "3\u200b" (ends with {NO_WIDTH})'),
        (f'logLevel: "info{Z}"', rf', not "info\u200b" (ends with {NO_WIDTH})'),
        (f'trustedProxies: ["127.0.0.1{N}"]', rf'"127.0.0.1\u00a0" (ends with {NO_BREAK}) is no address'),
        ('trustedProxies: ["10.0.0.1/8"]', '"10.0.0.1/8" is no address like 10.0.0.1 and no network like 10.0.0.0/8'),
        (f"listen:{N}127.0.0.1:2000", rf'must be a mapping, not text "listen:\u00a0127.0.0.1:2000" (with {NO_BREAK})'),
        (f'listen: "127.0.0.1:2000{N}"', rf'"127.0.0.1:2000\u00a0" (ends with {NO_BREAK})'),
        (f'database: "sqlite:///x.db{N}"', rf'"sqlite:///x.db\u00a0" (ends with {NO_BREAK})'),
        (f'records: "/x{Z}"', rf'"/x\u200b" (ends with {NO_WIDTH})'),
    ],
)
def test_what_is_wrong_with_a_configuration_of_meta_is_in_plain_sight(tmp_path, line, told):
    file = tmp_path / "meta.yaml"
    file.write_text(f"{line}\n")
    with pytest.raises(MetaMisconfigured) as raised:
        read(file)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"mq.port=5672{Z}", rf'mq.port: must be a port, 0 to 65535, not "5672\u200b" (ends with {NO_WIDTH})'),
        (f"auth.mode=simple{Z}", rf'not "simple\u200b" (ends with {NO_WIDTH})'),
        (f"zookeeper.enabled=true{Z}", rf'not "true\u200b" (ends with {NO_WIDTH})'),
        (f"auth.mode=simple\nauth.localAppInfo={{'a':{N}'1'}}x", rf"(with {NO_BREAK})"),
        (f"auth.mode{N}=simple\nmq.port=x", rf'"auth.mode\u00a0" (ends with {NO_BREAK}): is not a known key'),
    ],
)
def test_what_is_wrong_with_a_configuration_of_elves_is_in_plain_sight(line, told):
    with pytest.raises(RecordsError) as raised:
        settings.settle(settings.parse(line.encode()))
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (
            lambda: judge(Info("a", f"10.0.0.1{Z}", "1", "{}"), 0.0).problem,
            rf'ip "10.0.0.1\u200b" (ends with {NO_WIDTH})',
        ),
        (lambda: refused(parse_table, table(f"app{Z}", "1")), rf'the app "app\u200b" (ends with {NO_WIDTH})'),
        (lambda: refused(parse_table, table("app", f"1{N}2")), rf'the version "1\u00a02" (with {NO_BREAK})'),
        (lambda: refused(messages.parse, message(f"a{Z}", "call")), rf'mqkey "a\u200b" (ends with {NO_WIDTH})'),
        (lambda: refused(messages.parse, message("a.b.c", f"call{Z}")), rf'mqtype "call\u200b" (ends with {NO_WIDTH})'),
        (lambda: why_problem(f"a{N}b"), rf'why "a\u00a0b" (with {NO_BREAK}) must be'),
    ],
)
def test_what_is_wrong_with_what_others_send_is_in_plain_sight(problem, told):
    assert told in problem()


def refused(parse, data):
    with pytest.raises((BadTable, messages.Dropped)) as raised:
        parse(data)
    return str(raised.value)


def table(app, version):
    return json.dumps([{"app": app, "version": version, "agentList": []}]).encode()


def message(key, kind):
    return json.dumps({"mqkey": key, "mqtype": kind, "mqbody": {}}).encode()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"agents:\n  -{N}name: a\n    version: 1\n", f"f:2: not YAML at column 4 ({NO_BREAK} is no blank of YAML)"),
        (f"agents:\n- name: a\n  version:{N}1\n  cmd: start\n", f"f:3: not YAML at column 11 ({NO_BREAK} is no blank"),
        (f"agents:\n- name: a\n{N} version: 1\n  cmd: start\n", f"f:3: not YAML at column 1 ({NO_BREAK} is no blank"),
        (f"agents:\n- name: a\n  attempt: 1{N}\n", r"f:3: agents[0].attempt: must be a whole number from 0 to"),
        (f"agents:\n- name: a\n  attempt: 1{N}\n", rf'not text "1\u00a0" (ends with {NO_BREAK})'),
    ],
)
def test_a_blank_that_is_none_is_named_on_its_own_line_of_a_records_file(text, told):
    with pytest.raises(RecordsError) as raised:
        parse(text, "f")
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"META_LISTEN{Z}=127.0.0.1:1", rf'sets no variable: "META_LISTEN\u200b" (ends with {NO_WIDTH}) is no name'),
        (f"META_URL{N}=x", rf'sets no variable: "META_URL\u00a0" (ends with {NO_BREAK}) is no name'),
        (f"{N}META_URL=x", rf'sets no variable: "\u00a0META_URL" (with {NO_BREAK}) is no name'),
        ("META_URL =x", "a shell would run META_URL as a command"),
    ],
)
def test_a_line_of_meta_env_that_sets_nothing_for_what_nobody_sees_names_it(line, told):
    [problem] = variables.problems(line, ["META_LISTEN", "META_URL"])
    assert told in problem.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f'{{"keep{N}Versions": 1, SERVER}}', rf': "keep\u00a0Versions" (with {NO_BREAK}): unknown key'),
        (
            f'{{"agents": {{"a": {{"leftovers": "end{N}"}}}}, SERVER}}',
            rf'"end\u00a0" (ends with {NO_BREAK}) is none of',
        ),
        (f'{{"caFile": "/x{Z}", SERVER}}', rf'caFile: "/x\u200b" (ends with {NO_WIDTH}) is not a file'),
        (f'{{"agents": {{"a{Z}": {{}}}}, SERVER}}', rf'agents."a\u200b" (ends with {NO_WIDTH}): name "a\u200b"'),
        (f'{{SERVER,{N}"debug": true}}', f"(with {NO_BREAK})"),
    ],
)
def test_what_is_wrong_with_a_configuration_of_the_updater_is_in_plain_sight(tmp_path, text, told):
    file = tmp_path / "cfg.json"
    file.write_text(text.replace("SERVER", '"server": "http://127.0.0.1:1", "interval": 5'))
    with pytest.raises(Misconfigured) as raised:
        load_config(file)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("ou_o_abc".encode("utf-16"), UTF_16),
        ("ou_o_abc".encode("utf-16-le"), UTF_16),
        (f"ou_o_abc{Z}\n".encode(), f"without {NO_WIDTH}"),
        (f"ou_o{N}abc\n".encode(), f"without {NO_BREAK}"),
    ],
)
def test_what_is_wrong_with_a_token_is_named_and_the_token_is_not_shown(tmp_path, data, told):
    file = tmp_path / "token"
    file.write_bytes(data)
    file.chmod(0o600)
    with pytest.raises(MetaMisconfigured) as raised:
        token(file)
    assert told in str(raised.value)
    assert "abc" not in str(raised.value)


@pytest.mark.parametrize("text", [f"ou_o{N}abc", f"ou_o_abc{N}", f"{N}ou_o_abc", N])
def test_a_token_in_the_environment_is_told_of_its_odd_character(monkeypatch, text):
    monkeypatch.setenv("META_TOKEN", text)
    with pytest.raises(MetaMisconfigured, match=r"META_TOKEN .*, without U.00A0 NO-BREAK SPACE"):
        token(None)


@pytest.mark.parametrize("text", [f"ou_o_abc{N}\n", f"{N}ou_o_abc"])
def test_a_token_in_a_file_is_told_of_its_odd_character_at_an_end(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(MetaMisconfigured, match=r"token .*, without U.00A0 NO-BREAK SPACE"):
        token(file)


@pytest.mark.parametrize(
    "text", [f"Bearer x{N}", f"Bearer x{N}\r\n", f"{N}Bearer x", f"Bearer {N}x", f"user:word{N}", f"Bearer{N}x"]
)
def test_a_secret_of_the_updater_is_told_of_its_odd_character_at_an_end(tmp_path, text):
    file = tmp_path / "secret"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(Misconfigured, match=r"but hold U.00A0 NO-BREAK SPACE"):
        Credentials({"http://h": str(file)}).header("http://h/x")


def test_a_bearer_of_letters_that_no_header_takes_is_told_of_them(tmp_path):
    file = tmp_path / "secret"
    file.write_text("Bearer \u0445yz")
    file.chmod(0o600)
    with pytest.raises(Misconfigured, match=r"but hold U.0445 CYRILLIC SMALL LETTER HA$"):
        Credentials({"http://h": str(file)}).header("http://h/x")


@pytest.mark.parametrize("data", ["Bearer x".encode("utf-16"), f"Bearer x{Z}".encode()])
def test_what_is_wrong_with_a_secret_of_the_updater_is_named(tmp_path, data):
    file = tmp_path / "secret"
    file.write_bytes(data)
    file.chmod(0o600)
    with pytest.raises(Misconfigured, match=r"UTF-16|U.200B ZERO WIDTH SPACE"):
        Credentials({"http://h": str(file)}).header("http://h/x")


ODD = "x\xa0y"
PROBLEMS = [
    name_problem, version_problem, hostname_problem, md5_problem, sha256_problem,
    run_user_problem, work_dir_problem, label_problem,
    lambda text: base_problem("tarball", f"http://h/{text}"), lambda text: value_problem("cmd", text),
    lambda text: value_problem("leftovers", text), lambda text: value_problem("unknownStatus", text),
]  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_refusal_of_a_value_names_the_character(problem):
    assert "(with U+00A0 NO-BREAK SPACE)" in problem(ODD)
    assert "(ends with U+000A LINE FEED)" in problem("x\n")


def test_a_records_file_a_command_and_cfg_json_name_it_too(tmp_path):
    file = tmp_path / "records.yaml"
    file.write_text('agents: [{name: a, version: "1.0\\n", tarball: "http://h/\u200b", "cm\xa0d": start}]')
    with pytest.raises(RecordsError) as e:
        load(file)
    assert "ends with U+000A LINE FEED" in str(e.value)
    assert "with U+200B ZERO WIDTH SPACE" in str(e.value)
    assert r'unknown key "cm\u00a0d" (with U+00A0 NO-BREAK SPACE); did you mean cmd?' in str(e.value)
    with pytest.raises(MetaMisconfigured, match=r"with U\+00A0 NO-BREAK SPACE"):
        fields_of(["version=1\xa00"])
    cfg = tmp_path / "cfg.json"
    for key, value in (("hostname", "web-1\n"), ("server", "meta\u200b:2000"), ("desiredAgent", "x\xa0")):
        cfg.write_text(json.dumps({"server": "meta:2000", "interval": 60, key: value}))
        with pytest.raises(Misconfigured, match=r"U\+00(0A|A0)|U\+200B"):
            load_config(cfg)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text",
    [
        "agents: []\n",
        '{"server": "meta:2000"}',
        "# Записи агентов, все\nagents:",
        f"# {'所有代理的记录' * 10}\r\nagents: []\r\n",
        f"# {'Записи агентов, все ' * 30}\nagents: [] # \U0001f600\n",
    ],
)
def test_utf_16_is_recognised_with_its_mark_and_without(tmp_path, encoding, text):
    data = text.encode(encoding)
    file = tmp_path / "records.yaml"
    file.write_bytes(data)
    for reading, error in (
        (load, RecordsError),
        (read, RecordsError),
        (load_config, Misconfigured),
        (lambda path: decode(io.BytesIO(path.read_bytes()).read(), "stdin"), RecordsError),
    ):
        with pytest.raises(error, match=UTF_16):
            reading(file)


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["agents: []\n", "# Записи\r\nagents:", f"# {'所有代理的记录' * 30}\nagents: []"])
def test_utf_32_is_called_so_with_its_mark_and_without(tmp_path, encoding, text, mark):
    file = tmp_path / "records.yaml"
    file.write_bytes((mark + text).encode(encoding))
    for reading, error in ((load, RecordsError), (read, RecordsError), (load_config, Misconfigured)):
        with pytest.raises(error, match=UTF_32):
            reading(file)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"agents: []",
        "агент".encode(),
        b"\xff",
        b"a\0b",
        b"\xef\xbb\xbfagents: []",
        b"a b\0agents: []" + b" " * 31,
        "# Записи\0агентов, все\nagents:".encode(),
        bytes(range(256)),
    ],
)
def test_what_is_not_utf_16_is_not_taken_for_it(data):
    assert encoding_problem(data) == ""
