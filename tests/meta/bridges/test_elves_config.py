"""conf.properties: Java's syntax, all keys of the original file, and every problem of a bad one."""

import pytest

from meta.bridges.elves import settings
from meta.bridges.elves.settings import BadProperties, Settings, local_apps, parse, settle
from meta.errors import Misconfigured, RecordsError

ORIGINAL = """
#zookeeper config
zookeeper.enabled=false
zookeeper.host=127.0.0.1:2181
zookeeper.outTime=10000
zookeeper.root = /elves

#MQ Basic Config
mq.ip       = 192.168.0.1
mq.port     = 5672
mq.user     = admin
mq.password = 1234567890
mq.exchange = elves

#auth config
auth.mode = supervisor
auth.localAppInfo={'app1':'1.0.1','app2':'1.0.2'}

#thrift config
thrift.heartbeat.port=11102
"""
APPS = {"app1": "1.0.1", "app2": "1.0.2"}


def test_the_original_file_as_it_is():
    assert settle(parse(ORIGINAL.encode())) == Settings(
        mode="supervisor", local_apps=APPS, mq_ip="192.168.0.1", mq_user="admin", mq_password="1234567890"
    )


def test_the_files_of_its_documentation_with_comments_behind_values_and_older_names():
    text = """
zookeeper.enabled=true                 #是否开启ZK
zookeeper.host=10.0.101.1:2181,10.0.101.2:2181,10.0.101.3:2181    #Zookeeper地址
zookeeper.root=/elves                  #Zookeeper ROOT地址
zookeeper.heartbeat.port=11202
auth.mode = simple              #权限模式
auth.localAppInfo={'app1':'1.0.1','app2':'1.0.2'}      #simple模式的app列表
mq.password=a #b
"""
    assert settle(parse(text.encode())) == Settings(
        mode="simple",
        local_apps=APPS,
        thrift_port=11202,
        mq_password="a #b",
        warnings=(
            "mq.password has a # that may begin a comment, but belongs to the password; put comments on their own lines",
        ),
        zookeeper_hosts="10.0.101.1:2181,10.0.101.2:2181,10.0.101.3:2181",
    )


def test_nothing_said_is_our_own_records_without_zookeeper():
    assert settle({}) == Settings()
    assert Settings().mode == "records" and Settings().zookeeper_hosts == ""


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("a=1\nb:2\nc 3", {"a": "1", "b": "2", "c": "3"}),
        ("  a  =  1  ", {"a": "1  "}),
        ("a==1", {"a": "=1"}),
        ("a = : 1", {"a": ": 1"}),
        ("# a=1\n! b=2\n\n c=3", {"c": "3"}),
        ("a=1,\\\n   2,\\\n   3\nb=4", {"a": "1,2,3", "b": "4"}),
        ("a=1\\\\\nb=2", {"a": "1\\", "b": "2"}),
        ("a=\\u4e2d\\t\\n\\q", {"a": "中\t\nq"}),
        ("a\\ b\\=c=1", {"a b=c": "1"}),
        ("a\r\nb=1\rc=2", {"a": "", "b": "1", "c": "2"}),
        ("a=1\na=2", {"a": "2"}),
        ("a=1\\", {"a": "1"}),
        ("=1", {"": "1"}),
        ("", {}),
        ("# comment \\\na=1", {"a": "1"}),
        ("a=\\ud83d\\ude00", {"a": "😀"}),
    ],
)
def test_java_syntax(text, entries):
    assert parse(text.encode()) == entries


def test_utf8_and_latin1_and_a_byte_order_mark():
    assert parse("a=ü中".encode()) == {"a": "ü中"}
    assert parse("a=ü".encode("latin-1")) == {"a": "ü"}
    assert parse(b"\xef\xbb\xbfa=1") == {"a": "1"}


def test_a_broken_escape_names_its_line():
    with pytest.raises(BadProperties, match="line 2"):
        parse(b"a=1\nb=\\u12")
    with pytest.raises(BadProperties, match=r"^line 6: "):
        parse("# \u2028\r\n\ra=1\\\n  2\n\n b = \\u 123".encode())


@pytest.mark.parametrize(
    ("text", "apps"),
    [
        ("{'a':'1'}", {"a": "1"}),
        ('{"a": "1", \'b\': "2"}', {"a": "1", "b": "2"}),
        ('{"a":"1"}', {"a": "1"}),
        ("{}", {}),
    ],
)
def test_local_apps_in_either_kind_of_quotes(text, apps):
    assert local_apps(text) == apps


@pytest.mark.parametrize(
    "text", ["[]", "{'a':1}", "{'a':''}", "{'a'", "__import__('os')", "{" * 5000, "'a'", "{'':'1'}"]
)
def test_what_is_no_list_of_apps_is_refused(text):
    with pytest.raises(ValueError, match="must be apps"):
        local_apps(text)


def test_all_problems_at_once_a_sentence_each():
    bad = {
        "auth.mode": "mine",
        "auth.localAppInfo": "[1]",
        "mq.port": "70000",
        "mq.exchange": "amq.topic",
        "thrift.heartbeat.port": "x",
        "zookeeper.enabled": "yes",
        "zookeeper.outTime": "1",
        "zookeeper.root": "elves",
        "auth.syncSeconds": "0",
        "mq.agentInfo": "table",
    }
    with pytest.raises(RecordsError) as refused:
        settle(bad)
    assert {problem.path for problem in refused.value.problems} == set(bad)
    with pytest.raises(RecordsError, match=r"zookeeper\.host: must be HOST:PORT"):
        settle({"zookeeper.enabled": "true", "zookeeper.host": "a b"})


def test_mode_simple_without_apps_would_wipe_every_agent():
    with pytest.raises(RecordsError, match="every agent would remove all its apps"):
        settle({"auth.mode": "simple"})
    assert settle({"auth.mode": "simple", "auth.localAppInfo": "{}"}).local_apps == {}


def test_unknown_keys_are_told(tmp_path):
    file = tmp_path / "conf.properties"
    file.write_text("auth.mdoe=simple\nmore=1")
    assert settings.read(file).warnings == (
        "auth.mdoe is not a known key and has no effect; did you mean auth.mode?",
        "more is not a known key and has no effect",
    )


def test_files_that_cannot_be_read(tmp_path):
    for content in (None, b"a=\\u1", bytes((1 << 20) + 1)):
        file = tmp_path / "conf.properties"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(Misconfigured):
            settings.read(file)


def test_a_key_that_is_nearly_right_is_named_beside_the_error():
    with pytest.raises(RecordsError) as refused:
        settle({"auth.mode": "simple", "auth.localAppinfo": "{'a':'1'}", "colour": "red"}, "c")
    assert str(refused.value).splitlines() == [
        "c: auth.localAppInfo: is missing in mode simple, and every agent would remove all its apps; write {} if you want that",
        "c: auth.localAppinfo: is not a known key and has no effect; did you mean auth.localAppInfo?",
    ]


@pytest.mark.parametrize(
    ("line", "warned", "password"),
    [
        ("mq.password = secret          #RABBITMQ password", True, "secret          #RABBITMQ password"),
        ("mq.password = secret#1", False, "secret#1"),
        ("mq.password = #secret", True, "#secret"),
        ("mq.password =       # secret, ask the owner", True, "# secret, ask the owner"),
        ("mq.password = secret ", True, "secret "),
        ("mq.password = secret", False, "secret"),
    ],
)
def test_a_password_is_taken_whole_and_what_may_not_be_meant_is_warned_of_without_showing_it(line, warned, password):
    settings = settle(parse(line.encode()))
    assert settings.mq_password == password
    assert [("mq.password" in text, "secret" in text) for text in settings.warnings] == [(True, False)] * warned


def test_a_comment_in_place_of_a_value_leaves_it_at_its_default():
    text = "mq.ip =     # the broker\nmq.exchange=#its exchange\nzookeeper.root =\t# of all instances\nmq.port =\n"
    assert settle(parse(text.encode())) == settle({})


@pytest.mark.parametrize(
    "hosts",
    ["h:21x81", "h:99999", "h:-1", ":2181", "::1", "h:1,", "h:1, k:2", "h:1/../a", "h:1/a//b", "[::1:2181", "/a"],
)
def test_an_address_of_zookeeper_that_is_none_is_refused(hosts):
    with pytest.raises(RecordsError, match=r"zookeeper\.host: must be HOST:PORT"):
        settle({"zookeeper.enabled": "true", "zookeeper.host": hosts})


@pytest.mark.parametrize("hosts", ["h", "h:2181", "10.0.0.1:2181,10.0.0.2:2181", "[::1]:2181", "h:1/elves/a", "h:1/"])
def test_an_address_of_zookeeper_as_its_clients_take_it(hosts):
    assert settle({"zookeeper.enabled": "true", "zookeeper.host": hosts}).zookeeper_hosts == hosts


@pytest.mark.parametrize("root", ["/elves/..", "/.", "/./elves", "/..", "/a/../b", "//", "elves"])
def test_a_root_that_cannot_be_on_zookeeper_is_refused(root):
    with pytest.raises(RecordsError, match=r"zookeeper\.root: must be a path"):
        settle({"zookeeper.enabled": "true", "zookeeper.root": root})
    for good in ("/...", "/.elves", "/elves./a..b", "/elves/"):
        assert settle({"zookeeper.root": good}).root == good.rstrip("/")


def test_keys_in_capital_letters_are_named():
    assert settle({"MQ.IP": "h"}).warnings == ("MQ.IP is not a known key and has no effect; did you mean mq.ip?",)


@pytest.mark.parametrize(
    ("key", "meant"),
    [("mq.host", "mq.ip"), ("MQ.hostname", "mq.ip"), ("zookeeper.heartbeat.prot", "zookeeper.heartbeat.port")],
)
def test_the_key_that_is_named_is_the_one_that_was_meant(key, meant):
    text = f"is not a known key and has no effect; did you mean {meant}?"
    assert settle({key: "10.0.0.1"}).warnings == (f"{key} {text}",)
    with pytest.raises(RecordsError, match=rf"{key}: {text[:-1]}"):
        settle({key: "10.0.0.1", "mq.port": "x"})


@pytest.mark.parametrize("enabled", ["true", "false", None])
def test_an_address_of_zookeeper_without_a_word_whether_it_is_used(enabled):
    entries = {"zookeeper.host": "10.0.0.1:2181"} | ({"zookeeper.enabled": enabled} if enabled else {})
    warnings = settle(entries).warnings
    assert [text.startswith("zookeeper.host is given but zookeeper.enabled is not") for text in warnings] == [True] * (
        not enabled
    )


def test_the_form_of_agent_info():
    assert [settle({"mq.agentInfo": word}).agent_info_list for word in ("list", "object", "")] == [True, False, False]
