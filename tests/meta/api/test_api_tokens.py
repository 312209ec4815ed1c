"""Tokens and enrolment by REST."""

import logging

import pytest

from helpers.meta_api import NOW, World
from lab.fleet import until
from meta.access.tokens import Token, fingerprint, mint
from meta.errors import TryLater, Unknown
from meta.store import Lost

PROBLEM = "application/problem+json"


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def refused(answer, status):
    assert (answer.status_code, answer.content_type) == (status, PROBLEM), answer.text
    return answer.json


def make(world, **body):
    answer = world.call("POST", "tokens", json=body)
    assert answer.status_code == 201, answer.text
    world.tokens[body["name"]] = answer.json["token"]
    return answer.json


def test_who_one_is(world):
    assert [world.call("GET", "whoami", who).json for who in ("viewer", "host", "local")] == [
        {"name": "viewer", "role": "viewer"},
        {"name": "h1", "role": "host"},
        {"name": "", "role": ""},
    ]


def test_a_new_token_works_at_once_and_is_shown_once(world):
    made = make(world, kind="operator", name="Anna B.", role="editor")
    assert made["token"].startswith("ou_o_")
    assert world.call("GET", "whoami", "Anna B.").json == {"name": "Anna B.", "role": "editor"}
    listing = world.call("GET", "tokens")
    assert [one for one in listing.json["items"] if one["id"] == made["id"]] == [
        {key: value for key, value in made.items() if key not in ("token", "warnings")}
    ]
    assert made["token"] not in listing.text
    assert "hash" not in listing.text


def test_a_revoked_token_stops_at_once(world):
    made = make(world, kind="operator", name="gone", role="admin")
    assert world.call("DELETE", f"tokens/{made['id']}", "admin").status_code == 204
    refused(world.call("GET", "whoami", "gone"), 401)
    refused(world.call("DELETE", f"tokens/{made['id']}"), 404)
    refused(world.call("DELETE", "tokens/999"), 404)
    refused(world.call("DELETE", "tokens/x"), 400)


def test_a_token_expires(world):
    make(world, kind="operator", name="short", role="viewer", expires=NOW + 60)
    world.now += 59
    assert world.call("GET", "whoami", "short").status_code == 200
    world.now += 1
    refused(world.call("GET", "whoami", "short"), 401)


def test_the_last_admin_is_not_locked_out(world):
    admin = next(one for one in world.store.tokens() if one.name == "admin")
    assert "last" in refused(world.call("DELETE", f"tokens/{admin.id}"), 409)["detail"]
    make(world, kind="operator", name="other", role="admin")
    assert world.call("DELETE", f"tokens/{admin.id}").status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "operator", "name": "x"},
        {"kind": "operator", "name": "x", "role": "root"},
        {"kind": "operator", "name": "x", "role": "viewer", "uses": 3},
        {"kind": "operator", "name": "x", "role": "viewer", "hash": "00"},
        {"kind": "enrolment", "name": "x", "role": "admin"},
        {"kind": "host", "name": "x"},
        {"kind": "enrolment", "name": ""},
        {"kind": "enrolment", "name": "x\nINFO forged"},
        {"kind": "enrolment", "name": "x\n"},
        {"kind": "enrolment", "name": "x", "uses": 0},
        {"kind": "enrolment", "name": "x", "uses": 2**63},
        {"kind": "enrolment", "name": "x", "expires": 1},
        {"kind": "enrolment", "name": "x", "expires": -1},
        {"kind": "enrolment", "name": "x", "expires": "never"},
        {"kind": "enrolment", "name": "x", "pattern": ""},
        {"kind": "enrolment", "name": "x", "pattern": "r7-*\u00a0"},
        {"kind": "enrolment", "name": "x", "pattern": "a b"},
        {"kind": "enrolment", "name": "x", "pattern": "web,db"},
        {"kind": "enrolment", "name": "x", "pattern": "prefix:r7-"},
        {"kind": "enrolment", "name": "x", "pattern": "["},
        {"kind": "enrolment", "name": "x", "pattern": "-*"},
    ],
)
def test_a_token_that_cannot_be_meant_is_not_made(world, body):
    before = len(world.store.tokens())
    refused(world.call("POST", "tokens", json=body), 400)
    assert len(world.store.tokens()) == before


def test_a_name_that_is_not_of_its_form_is_shown_and_the_form_told_in_words(world):
    body = {"kind": "operator", "name": "al\u200bice", "role": "viewer"}
    told = refused(world.call("POST", "tokens", json=body), 400)
    words = (
        r'"al\u200bice" (with U+200B ZERO WIDTH SPACE) is not 1 to 64 letters, digits, blanks or any of @._-, the first'
    )
    assert told["detail"] == f"name: {words} a letter or digit"
    told = refused(world.call("POST", "rollback", json={"agent": "a0\u200b"}), 400)
    assert told["detail"].startswith(r'agent: "a0\u200b" (ends with U+200B ZERO WIDTH SPACE) is not 1 to 64 letters')
    told = refused(world.call("GET", "records/a%c2%a0"), 400)
    assert told["detail"].startswith(r'agent: "a\u00a0" (ends with U+00A0 NO-BREAK SPACE) is not 1 to 64 letters')
    told = refused(world.call("POST", "labels", json={"hosts": ["h", "h\xa0"], "set": {"a": ""}}), 400)
    assert told["detail"].startswith(r'hosts[1]: "h\u00a0" (ends with U+00A0 NO-BREAK SPACE) is not 1 to 253 letters')


def test_a_pattern_that_fits_no_host_is_shown(world):
    body = {"kind": "enrolment", "name": "x", "pattern": "r7-*\u00a0"}
    problem = refused(world.call("POST", "tokens", json=body), 400)
    shown = 'hosts "r7-*\u00a0" (ends with U+00A0 NO-BREAK SPACE) fits no host: a hostname has only letters'
    assert problem["detail"].startswith(shown.replace("\u00a0", "\\u00a0"))


# --- enrolment ---


def enrol(world, host, who="enrolment", secret=""):
    headers = {"Idempotency-Key": secret} if secret else {}
    answer = world.call("POST", "enrol", who, headers, json={"hostname": host})
    if answer.status_code == 201:
        world.tokens[host] = answer.json["token"]
    return answer


def beat(world, host, who):
    return world.call("POST", "/heartbeat", who, json={"hostname": host}).status_code


def test_a_host_enrols_and_reports_with_its_own_token(world):
    answer = enrol(world, "new1")
    assert (answer.status_code, answer.json["hostname"]) == (201, "new1")
    assert enrol(world, "new2").status_code == 201
    assert [beat(world, host, who) for host in ("new1", "new2") for who in ("new1", "new2", "nobody")] == [
        *(200, 403, 401),
        *(403, 200, 401),
    ]
    assert world.call("GET", "whoami", "new1").json == {"name": "new1", "role": "host"}
    assert world.call("GET", "/metrics", "new1").status_code == 200
    refused(world.call("GET", "hosts/new2", "new1"), 403)


def test_a_host_that_has_a_token_is_not_taken_over(world):
    enrol(world, "new1")
    first = world.tokens["new1"]
    refused(enrol(world, "new1"), 409)
    assert beat(world, "new1", "new1") == 200
    assert world.call("DELETE", "hosts/new1/token").status_code == 204
    assert beat(world, "new1", "new1") == 403
    refused(world.call("DELETE", "hosts/new1/token"), 404)
    assert enrol(world, "new1").status_code == 201
    assert world.tokens["new1"] != first
    make(world, kind="enrolment", name="again", reenrol=True)
    assert enrol(world, "new1", "again").status_code == 201
    assert beat(world, "new1", "new1") == 200


def test_an_enrolment_token_is_for_some_hosts_and_some_uses(world):
    make(world, kind="enrolment", name="lg", uses=2, pattern="lg-*", expires=NOW + 60)
    refused(enrol(world, "bj-1", "lg"), 403)
    assert [enrol(world, f"lg-{i}", "lg").status_code for i in range(3)] == [201, 201, 401]
    make(world, kind="enrolment", name="late", expires=NOW + 60)
    world.now += 60
    refused(enrol(world, "lg-9", "late"), 401)


@pytest.mark.parametrize(
    "host", ["<img src=x onerror=alert(1)>", "a\nb", "a\0b", "a" * 65536, "', drop", "../x", "", 5, None]
)
def test_a_name_that_is_no_hostname_does_not_enrol(world, host):
    refused(enrol(world, host), 400)


SECRET = "of-this-machine-" + "a" * 27


def test_an_enrolment_that_is_repeated_with_the_same_secret_is_the_same_though_its_token_is_used_up(world):
    make(world, kind="enrolment", name="one", uses=1)
    first = enrol(world, "new1", "one", SECRET)
    followed(world)
    again = enrol(world, "new1", "one", SECRET)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json == again.json
    assert beat(world, "new1", "new1") == 200
    assert "used up" in refused(enrol(world, "new2", "one", SECRET), 401)["detail"]
    assert "used up" in refused(enrol(world, "new1", "one", SECRET[::-1]), 401)["detail"]


def test_it_is_the_same_with_another_enrolment_token_and_costs_none_of_its_uses(world):
    first = enrol(world, "new1", secret=SECRET)
    made = make(world, kind="enrolment", name="other", uses=1)
    assert enrol(world, "new1", "other", SECRET).json == first.json
    assert next(one for one in world.store.tokens() if one.id == made["id"]).uses == 1


def test_another_machine_of_that_name_is_told_that_its_enrolment_token_is_not_what_is_wrong(world):
    enrol(world, "new1", secret=SECRET)
    assert "new1 has a token already" in refused(enrol(world, "new1", secret=SECRET[::-1]), 409)["detail"]
    assert "new1 has a token already" in refused(enrol(world, "new1"), 409)["detail"]
    assert enrol(world, "new2", secret=SECRET).json["token"] != world.tokens["new1"]  # nor does a secret tell another's


@pytest.mark.parametrize("secret", ["short", "a" * 31, "a" * 129, "ä" * 40, "a b" * 20])
def test_a_secret_that_could_be_guessed_or_is_none_is_refused(world, secret):
    refused(enrol(world, "new1", secret=secret.encode().decode("latin-1")), 400)


def test_what_is_wrong_with_a_token_is_told_to_who_shows_it(world):
    assert [refused(enrol(world, "new1", who), 401)["detail"] for who in ("forged", "revoked", "expired")] == [
        "this token is not known",
        "this token was revoked",
        "this token has expired",
    ]


def test_an_enrolment_token_that_was_made_at_another_meta_is_known_soon_and_said_to_be_so(world):
    other = world.another()
    try:
        world.store.add_token(Token(0, "enrolment", "rack8", hash=fingerprint("new-one")))
        world.tokens["rack8"] = "new-one"
        refusals = []
        until(
            "it is known",
            lambda: (answer := enrol(other, "new1", "rack8")).status_code == 201 or refusals.append(answer),
        )
        answer = enrol(other, "new1", "forged")
        for one in (*filter(None, refusals), answer):
            assert (refused(one, 401)["detail"], one.headers["Retry-After"]) == ("this token is not known", "1")
            assert one.headers["WWW-Authenticate"]
        for who in ("revoked", "expired"):  # which nothing mends
            assert "Retry-After" not in enrol(other, "new1", who).headers
        assert "Retry-After" not in other.call("GET", "tokens", "forged").headers
    finally:
        other.close()


class LateAnswers:
    """A store whose transaction is over, and known to others, before its answer arrives here."""

    def __init__(self, store, meanwhile):
        self._store = store
        self._meanwhile = meanwhile

    def __getattr__(self, name):
        done = getattr(self._store, name)
        if name not in ("use_enrolment", "revoke_host_token", "revoke_token"):
            return done

        def call(*arguments):
            answer = done(*arguments)
            self._meanwhile()
            return answer

        return call


def followed(world):
    """What the keeper of this meta reads while an answer is late."""
    world.service._keeper.step(world.now)


def test_a_token_that_was_taken_back_elsewhere_before_its_enrolment_was_answered_opens_nothing(world):
    def meanwhile():
        assert world.store.revoke_host_token("new1", world.now)
        followed(world)

    world.service.store = LateAnswers(world.store, meanwhile)
    assert enrol(world, "new1").status_code == 201
    assert beat(world, "new1", "new1") == 403
    refused(world.call("GET", "whoami", "new1"), 401)


def test_a_host_that_enrolled_elsewhere_before_the_end_of_its_former_token_was_answered_keeps_the_new_one(world):
    enrol(world, "new1")
    text, hashed = mint("host")

    def meanwhile():
        assert world.store.use_enrolment(world.ids["enrolment"], "new1", hashed, world.now)
        followed(world)

    world.service.store = LateAnswers(world.store, meanwhile)
    assert world.call("DELETE", "hosts/new1/token").status_code == 204
    world.tokens["new1"] = text
    assert beat(world, "new1", "new1") == 200


@pytest.mark.parametrize("was_done", [True, False])
def test_an_enrolment_that_nobody_could_say_of_can_be_repeated(world, was_done):
    """The answer to its COMMIT was lost, and the database away then."""

    class Mute(LateAnswers):
        def use_enrolment(self, *arguments):
            if was_done:
                assert self._store.use_enrolment(*arguments)
            raise Unknown("the database did not say")

    world.service.store = Mute(world.store, None)
    refused(enrol(world, "new1"), 504)
    world.service.store = world.store
    assert enrol(world, "new1").status_code == 201
    followed(world)
    assert beat(world, "new1", "new1") == 200
    refused(enrol(world, "new1"), 409)


@pytest.mark.parametrize("error", [TryLater("away"), Unknown("it did not say either"), Lost("read again")])
def test_an_enrolment_that_nobody_could_say_of_can_be_repeated_until_there_is_an_answer(world, error):
    """It was made, and the database is still in trouble when the host asks again."""

    errors = [Unknown("the database did not say"), error, error]

    class Mute(LateAnswers):
        def use_enrolment(self, *arguments):
            if len(errors) == 3:
                assert self._store.use_enrolment(*arguments)
            raise errors.pop(0)

    world.service.store = Mute(world.store, None)
    for status in [504] + [504 if isinstance(error, Unknown) else 503] * 2:
        refused(enrol(world, "new1"), status)
    world.service.store = world.store
    assert enrol(world, "new1").status_code == 201
    followed(world)
    assert beat(world, "new1", "new1") == 200
    assert world.service.unanswered == {}


def test_an_admin_who_was_revoked_at_another_meta_makes_no_token_here(world):
    """This meta has not heard of it yet."""
    made = make(world, kind="operator", name="other", role="admin")
    assert world.store.revoke_token(made["id"], world.now)
    refused(world.call("POST", "tokens", "other", json={"kind": "operator", "name": "x", "role": "admin"}), 401)
    refused(world.call("DELETE", f"tokens/{world.ids['viewer']}", "other"), 401)
    refused(world.call("DELETE", "hosts/h1/token", "other"), 401)


def test_two_admins_who_revoke_each_other_at_two_metas_leave_one(world):
    """The other meta was first, and this one has not heard of it."""
    made = make(world, kind="operator", name="other", role="admin")
    assert world.store.revoke_token(world.ids["admin"], world.now, made["id"])
    refused(world.call("DELETE", f"tokens/{made['id']}", "admin"), 401)
    assert [one.name for one in world.store.tokens() if one.role == "admin" and not one.revoked] == ["expired", "other"]


# --- secrets ---


def test_no_token_is_ever_in_a_log_or_a_refusal(world, caplog):
    caplog.set_level(logging.DEBUG)
    make(world, kind="operator", name="anna", role="viewer")
    enrol(world, "new1")
    answers = [
        world.call(method, path, who)
        for who in world.tokens
        for method, path in [("GET", "tokens"), ("PUT", "bans/a/1")]
    ]
    told = caplog.text + "".join(answer.text for answer in answers)
    assert [name for name, text in world.tokens.items() if text in told or text[5:20] in told] == []
    assert "anna" in caplog.text
