"""Who may do what: the rules, the tokens, the limits; and every route of the application against every kind of client."""

import re

import pytest
from werkzeug.routing import Rule as Route

from helpers.meta_api import KINDS, NOW, World
from meta.access.clients import Buckets, RateLimits, allows_anonymous, bucket_of, client_address, is_local, network
from meta.access.roles import NOBODY, Principal, Rule, judge
from meta.access.tokens import HostTokens, Token, Tokens, mint
from meta.errors import Unauthorised

HOST = Principal("h", "host")
OPERATORS = {role: Principal("x", role) for role in ("viewer", "editor", "admin")}
WHO = {"nobody": NOBODY, "host": HOST, "enrolment": Principal("e", "enrolment"), **OPERATORS}
ALLOWED = {  # of a client elsewhere, where hosts without a token are not allowed
    Rule.PUBLIC: set(WHO),
    Rule.LOCAL: set(),
    Rule.READ: {"host", "viewer", "editor", "admin"},
    Rule.VIEWER: {"viewer", "editor", "admin"},
    Rule.EDITOR: {"editor", "admin"},
    Rule.ADMIN: {"admin"},
    Rule.ENROL: {"enrolment"},
}


# --- rules ---


@pytest.mark.parametrize("rule", Rule)
def test_a_rule_lets_in_whom_it_names_and_nobody_else(rule):
    verdicts = {who: judge(rule, principal, False, False).value for who, principal in WHO.items()}
    assert {who for who, status in verdicts.items() if not status} == ALLOWED[rule]
    refused_as = 403 if rule is Rule.LOCAL else 401
    assert verdicts["nobody"] in (0, refused_as)
    assert all(status in (0, 403) for who, status in verdicts.items() if who != "nobody")


@pytest.mark.parametrize("rule", Rule)
def test_being_on_this_machine_opens_local_routes_alone(rule):
    allowed = {who for who, principal in WHO.items() if not judge(rule, principal, True, False).value}
    assert allowed == (set(WHO) if rule is Rule.LOCAL else ALLOWED[rule])


@pytest.mark.parametrize("rule", Rule)
def test_where_hosts_may_be_anonymous_nobody_may_read_and_no_more(rule):
    allowed = {who for who, principal in WHO.items() if not judge(rule, principal, False, True).value}
    assert allowed == ALLOWED[rule] | ({"nobody"} if rule is Rule.READ else set())


# --- tokens of operators ---


def token(hashed, **fields):
    return Token(**{"id": 1, "kind": "operator", "name": "anna", "role": "editor", "hash": hashed} | fields)


def test_a_token_is_known_by_its_text_and_only_its_hash_is_kept():
    text, hashed = mint("operator")
    assert re.fullmatch(r"ou_o_[A-Za-z0-9_-]{43}", text)
    assert len(hashed) == 32
    tokens = Tokens([token(hashed)])
    assert tokens.authenticate(f"Bearer {text}", NOW) == Principal("anna", "editor", 1)
    assert tokens.authenticate(f"bearer  {text} ", NOW).name == "anna"
    assert tokens.authenticate("", NOW) is NOBODY
    assert text not in repr(vars(tokens))


@pytest.mark.parametrize(
    "fields", [{"revoked": NOW}, {"expires": NOW}, {"expires": NOW - 1}, {"hash": mint("operator")[1]}]
)
def test_a_token_that_is_no_longer_good_is_refused_and_not_taken_for_none(fields):
    text, hashed = mint("operator")
    tokens = Tokens([token(hashed, **fields)])
    with pytest.raises(Unauthorised):
        tokens.authenticate(f"Bearer {text}", NOW)


def test_tokens_are_replaced_as_a_whole():
    (text, hashed), (other, its_hash) = mint("operator"), mint("operator")
    tokens = Tokens([token(hashed)])
    tokens.replace([token(its_hash)], 2)
    assert tokens.authenticate(f"Bearer {other}", NOW).name == "anna"
    with pytest.raises(Unauthorised):
        tokens.authenticate(f"Bearer {text}", NOW)


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Basic YTpi", "x", "Bearer " + "x" * 600, "Bearer \ud800", "Bearer a b", "Bearer é\0"],
)
def test_another_header_is_no_token(header):
    with pytest.raises(Unauthorised):
        Tokens().authenticate(header, NOW)


def test_an_expired_admin_is_none():
    assert Tokens([token(b"1", role="admin")]).has_admin(NOW)
    assert not Tokens([token(b"1", role="admin", expires=1), token(b"2", role="editor")]).has_admin(NOW)


def test_what_is_told_late_replaces_nothing_that_is_later():
    """The answers of the database come in any order; each fact has the serial of its transaction."""
    made, revoked = token(b"1"), token(b"1", revoked=NOW)
    tokens = Tokens()
    tokens.take(revoked, 6, 0)
    tokens.take(made, 5, 0)
    assert tokens.all() == [revoked]
    tokens.replace([made], 5)  # which was read before it was revoked
    assert tokens.all() == [revoked]
    tokens.replace([revoked], 7)
    tokens.take(made, 5, 0)
    tokens.replace([made], 5)
    assert tokens.all() == [revoked]


def test_what_a_database_answered_before_it_lost_it_is_not_taken_for_later_than_what_it_holds():
    """An answer that is late, over a failover: its serial is higher than all that there is now."""
    lost, there = token(b"1"), token(b"2", id=2)
    tokens = Tokens()
    before, before_hosts = tokens.epoch, tokens.hosts.epoch
    tokens.renew([there], 3, 1)
    tokens.hosts.renew([("a", b"a", 3)], 3, 1)
    tokens.take(lost, 9, before)
    tokens.hosts.update([("a", b"lost", 9), ("b", b"lost too", 9)], epoch=before_hosts)
    assert tokens.all() == [there]
    assert (tokens.hosts.owner(b"a"), len(tokens.hosts)) == ("a", 1)
    tokens.take(lost, 4, tokens.epoch)
    tokens.hosts.update([("a", b"new", 4)], epoch=tokens.hosts.epoch)
    assert {one.hash for one in tokens.all()} == {b"1", b"2"}
    assert tokens.hosts.owner(b"new") == "a"


# --- tokens of hosts ---


def host_tokens(**hashes):
    tokens = HostTokens()
    tokens.update([(name, hashed, 1) for name, hashed in hashes.items()])
    return tokens


@pytest.mark.parametrize("reached", [0, 6])
def test_a_revoked_host_token_stays_revoked_however_late_its_enrolment_is_told(reached):
    text, hashed = mint("host")
    hosts = HostTokens()
    hosts.update([("a", b"", 6)], reached)
    hosts.update([("a", hashed, 5)])
    assert hosts.may_report("a", f"Bearer {text}", True) != ""
    assert "a" not in hosts


def test_a_good_host_token_stays_good_however_late_the_end_of_the_former_is_told():
    text, hashed = mint("host")
    hosts = HostTokens()
    hosts.update([("a", hashed, 7)], 7)
    hosts.update([("a", b"", 6)])
    hosts.update([("a", b"", 6)], 6)
    assert hosts.may_report("a", f"Bearer {text}", False) == ""


def test_a_host_with_a_token_must_show_it_and_no_other():
    (mine, my_hash), (others, their_hash) = mint("host"), mint("host")
    tokens = host_tokens(a=my_hash, b=their_hash)
    assert tokens.may_report("a", f"Bearer {mine}", False) == ""
    assert tokens.may_report("b", f"Bearer {mine}", True) != ""
    assert tokens.may_report("a", f"Bearer {others}", True) != ""
    assert tokens.may_report("a", "", True) != ""
    assert tokens.may_report("a", "Basic x", True) != ""


def test_a_host_without_a_token_is_let_in_where_that_is_allowed_and_never_with_anothers():
    text, hashed = mint("host")
    tokens = host_tokens(a=hashed)
    assert tokens.may_report("new", "", True) == ""
    assert tokens.may_report("new", "", False) != ""
    assert tokens.may_report("new", f"Bearer {text}", True) != ""


def test_a_token_that_was_taken_back_opens_nothing():
    text, hashed = mint("host")
    tokens = Tokens()
    hosts = tokens.hosts
    hosts.update([("a", hashed, 1)])
    assert tokens.authenticate(f"Bearer {text}", NOW) == Principal("a", "host")
    hosts.update([("a", b"", 2)])
    with pytest.raises(Unauthorised):
        tokens.authenticate(f"Bearer {text}", NOW)
    assert hosts.may_report("a", f"Bearer {text}", True) != ""
    assert len(hosts) == 0


def test_a_new_token_of_a_host_ends_the_former():
    (old, old_hash), (new, new_hash) = mint("host"), mint("host")
    hosts = host_tokens(a=old_hash)
    hosts.update([("a", new_hash, 2)])
    assert hosts.may_report("a", f"Bearer {old}", True) != ""
    assert hosts.may_report("a", f"Bearer {new}", False) == ""
    assert hosts.owner(old_hash) == ""
    assert "a" in hosts


# --- limits and addresses ---


def test_a_bucket_gives_its_burst_and_then_its_rate():
    buckets = Buckets(rate=2, burst=3)
    assert [buckets.take("a", 0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 0) == 0.5
    assert buckets.take("b", 0) == 0
    assert buckets.take("a", 0.5) == 0
    assert buckets.take("a", 0.5) > 0
    assert buckets.take("a", -100) > 0  # a clock that jumps back gives nothing
    assert [buckets.take("a", 1e6) for _ in range(4)].count(0) == 3


def test_buckets_are_bounded_and_forget_the_quiet():
    buckets = Buckets(rate=1, burst=1, clients=100)
    for i in range(10_000):
        buckets.take(str(i), 0)
        buckets.take("busy", 0)
    assert len(buckets) == 100
    assert buckets.take("busy", 0) > 0


def environ(address, **headers):
    return {"REMOTE_ADDR": address, **headers}


@pytest.mark.parametrize(
    ("remote", "forwarded", "client"),
    [
        ("9.9.9.9", "1.1.1.1", "9.9.9.9"),  # no proxy of ours: not believed
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),  # what a client wrote itself stands further left
        ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("", "1.1.1.1", ""),
    ],
)
def test_a_forwarded_address_is_believed_from_our_proxies_only(remote, forwarded, client):
    from ipaddress import ip_network

    trusted = (ip_network("10.0.0.0/30"),)
    assert client_address(environ(remote, HTTP_X_FORWARDED_FOR=forwarded), trusted) == client
    assert client_address(environ(remote, HTTP_X_FORWARDED_FOR=forwarded)) == remote


@pytest.mark.parametrize(
    ("text", "remote", "is_ours"),
    [
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("::ffff:0:0/96", "11.1.2.3", True),
        ("fd00::/8", "fd00::1", True),
        ("fd00::/8", "10.0.0.1", False),
    ],
)
def test_a_proxy_that_is_an_ipv4_address_inside_ipv6_is_that_ipv4_address(text, remote, is_ours):
    asked = environ(remote, HTTP_X_FORWARDED_FOR="1.1.1.1")
    assert client_address(asked, [network(text)]) == ("1.1.1.1" if is_ours else remote)


@pytest.mark.parametrize("header", ["HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP"])
def test_what_a_proxy_hands_on_is_not_local(header):
    assert is_local(environ("127.0.0.1"))
    assert not is_local(environ("127.0.0.1", **{header: "127.0.0.1"}))
    assert not is_local(environ("10.0.0.1"))


def test_anonymous_hosts_by_configuration():
    here, there = environ("::1"), environ("10.0.0.1")
    assert [allows_anonymous(s, here) for s in (None, True, False)] == [True, True, False]
    assert [allows_anonymous(s, there) for s in (None, True, False)] == [False, True, False]


def test_one_customer_of_ipv6_has_one_bucket():
    assert bucket_of("2001:db8::1") == bucket_of("2001:db8::ffff:2") != bucket_of("2001:db8:0:1::1")
    assert bucket_of("10.0.0.1") != bucket_of("10.0.0.2")


# --- every route against every kind of client ---


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("meta"))
    yield world
    world.close()


def samples(route: Route):
    """A path of this route that is well-formed and names nothing that is there."""
    values = {"agent": "nothing", "version": "9", "host": "nohost", "number": "77", "id": "77", "file": "no-1.tar.gz"}
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda part: values.get(part[1], "nothing"), route.rule)


def routes(app):
    """(method, path, rule) of everything that the application answers."""
    found = []
    for route in app.url_map.iter_rules():
        rule = app.view_functions[route.endpoint].rule
        found += [(method, samples(route), rule) for method in sorted(route.methods)]
    return found


EXPECTED = {  # 0: let in; what the route then says is its own business
    Rule.PUBLIC: dict.fromkeys(KINDS, 0),
    Rule.LOCAL: dict.fromkeys(KINDS, 403) | {"local": 0},
    Rule.READ: dict.fromkeys(("local", "viewer", "editor", "admin", "host"), 0) | {"enrolment": 403},
    Rule.VIEWER: dict.fromkeys(("viewer", "editor", "admin"), 0) | {"host": 403, "enrolment": 403},
    Rule.EDITOR: dict.fromkeys(("editor", "admin"), 0) | {"viewer": 403, "host": 403, "enrolment": 403},
    Rule.ADMIN: {"admin": 0, "editor": 403, "viewer": 403, "host": 403, "enrolment": 403},
    Rule.ENROL: {"enrolment": 0, "admin": 403, "editor": 403, "viewer": 403, "host": 403},
}


@pytest.mark.parametrize("who", KINDS)
def test_every_route_lets_in_whom_its_rule_names(world, who):
    wrong = []
    for method, path, rule in routes(world.app):
        expected = EXPECTED[rule].get(who, 401)
        answer = world.call(method, path, who)
        got = answer.status_code if answer.status_code in (401, 403) else 0
        if rule is Rule.ENROL and who == "enrolment":
            got = 0  # its own check follows the body, which is blank here
        if got != expected or (got == 401 and answer.headers.get("WWW-Authenticate") != "Bearer"):
            wrong.append((method, path, rule, expected, answer.status_code, answer.text))
        assert answer.status_code < 500, (method, path, answer.text)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert wrong == []


def test_there_are_routes_of_every_rule(world):
    assert {rule for _, _, rule in routes(world.app)} == set(Rule)
    assert len(routes(world.app)) > 60


def test_a_get_never_changes_anything(world):
    before = world.service.records, world.store.head(), world.service.table.names()
    for method, path, _ in routes(world.app):
        if method in ("GET", "HEAD", "OPTIONS") and "heartbeat" not in path:
            world.call(method, path)
    assert (world.service.records, world.store.head(), world.service.table.names()) == before


def test_a_route_without_a_rule_keeps_the_application_from_starting(world, monkeypatch):
    from meta.web import app, ops_meta

    monkeypatch.delattr(ops_meta.version, "rule")
    with pytest.raises(TypeError, match="version"):
        app.create_app(world.service)


@pytest.mark.parametrize("path", ["whoami", "records", "/metrics"])
def test_a_token_in_the_url_counts_for_nothing(world, path):
    assert world.call("GET", f"{path}?token={world.tokens['admin']}", "nobody").status_code == 401


# --- hosts report as themselves ---


def beat(world, host, who):
    return world.call("POST", "/heartbeat", who, json={"hostname": host})


def test_a_host_reports_as_itself_and_as_nobody_else(world):
    assert beat(world, "h1", "host").status_code == 200
    assert beat(world, "h2", "host").status_code == 403
    assert beat(world, "h1", "nobody").status_code == 401
    assert beat(world, "h1", "local").status_code == 401
    assert beat(world, "h1", "admin").status_code == 403
    assert beat(world, "h2", "nobody").status_code == 401
    assert beat(world, "h2", "local").status_code == 200


def test_a_forwarded_host_is_not_on_this_machine(world):
    answer = world.call("POST", "/heartbeat", "local", {"X-Forwarded-For": "127.0.0.1"}, json={"hostname": "h3"})
    assert answer.status_code == 401


# --- brute force and floods ---


@pytest.mark.long
def test_wrong_tokens_are_slowed_down_and_good_ones_are_not(tmp_path):
    world = World(tmp_path, RateLimits(Buckets(1, 10), Buckets(1e9, 1e9), Buckets(1e9, 1e9)))
    try:
        answers = [world.call("GET", "whoami", "forged") for _ in range(1000)]
        assert [a.status_code for a in answers] == [401] * 10 + [429] * 990
        assert answers[-1].headers["Retry-After"] == "1"
        assert answers[-1].content_type == "application/problem+json"
        assert world.call("GET", "whoami", "viewer").json == {"name": "viewer", "role": "viewer"}
        world.now += 1
        assert [world.call("GET", "/metrics", "forged").status_code for _ in range(2)] == [401, 429]
    finally:
        world.close()


@pytest.mark.long
def test_a_rack_behind_one_address_enrols_by_the_bucket_of_its_token_and_wrong_tokens_by_that_of_the_address(tmp_path):
    world = World(tmp_path, RateLimits(Buckets(1, 10), Buckets(1, 1), enrolments=Buckets(20, 200)))

    def enrol(who, number):
        return world.call("POST", "enrol", who, json={"hostname": f"r7-{number}"})

    try:
        world.add("rack8", kind="enrolment")
        world.service.tokens.replace(world.store.tokens(), world.store.head().tokens)
        assert [enrol("enrolment", i).status_code for i in range(202)] == [201] * 200 + [429] * 2
        assert enrol("enrolment", 203).headers["Retry-After"] == "1"
        assert [enrol("forged", i).status_code for i in range(12)] == [401] * 10 + [429] * 2
        assert enrol("rack8", 300).status_code == 201
    finally:
        world.close()


def test_one_client_may_not_flood_the_api_and_heartbeats_are_not_counted(tmp_path):
    world = World(tmp_path, RateLimits(Buckets(1e9, 1e9), Buckets(50, 200), Buckets(1e9, 1e9)))
    try:
        statuses = [world.call("GET", "whoami").status_code for _ in range(300)]
        assert statuses == [200] * 200 + [429] * 100
        assert world.call("GET", "/health").status_code == 200
        assert beat(world, "h1", "host").status_code == 200
        world.now += 1
        assert [world.call("GET", "whoami").status_code for _ in range(60)].count(200) == 50
    finally:
        world.close()
