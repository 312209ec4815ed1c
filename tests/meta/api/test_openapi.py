"""The OpenAPI document, and the API run by schemathesis from it: no 500, and no answer that the document does not have."""

import json
from ipaddress import ip_network

import pytest

from helpers.meta_api import REMOTE, World
from meta.access.clients import path_prefix
from meta.access.roles import Rule
from meta.api.framework.operation import FILE
from meta.api.routes import operations


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("meta"))
    yield world
    world.close()


@pytest.fixture(scope="module")
def document(world):
    return world.call("GET", "openapi.json", "nobody").json


def test_every_route_of_the_api_is_in_the_document_and_no_other(world, document):
    routes = {
        (method.lower(), route.rule.replace("<", "{").replace(">", "}"))
        for route in world.app.url_map.iter_rules()
        for method in route.methods - {"HEAD"}
        if route.rule.startswith("/api/v1/")
    }
    assert routes == {(method, path) for path, methods in document["paths"].items() for method in methods}


def test_each_operation_says_who_may_and_how_it_may_fail(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert any(status.startswith("2") for status in answers), (method, path)
            assert {"400", "429", "503"} <= set(answers)
            assert not operation["security"] or {"401", "403"} <= set(answers)
            assert operation["summary"]


def test_the_document_has_no_pattern_that_only_python_knows(document):
    text = json.dumps(document)
    assert "(?!" not in text
    assert "\\\\Z" not in text


def test_operations_have_names_of_their_own():
    names = [operation.name for operation in operations()]
    assert len(set(names)) == len(names) > 25


def test_what_changes_something_is_for_editors_and_no_get(document):
    changing = [one for one in operations() if one.method != "GET" and one.name != "compare_records"]
    assert {one.rule for one in changing} == {Rule.EDITOR, Rule.ADMIN, Rule.ENROL}
    reading = [one for one in operations() if one.method == "GET"]
    assert all(one.body is None for one in reading)
    assert {one.rule for one in reading} == {Rule.PUBLIC, Rule.READ, Rule.VIEWER, Rule.ADMIN}
    assert [one.name for one in operations() if one.body is FILE] == ["put_tarball"]


@pytest.mark.long
def test_schemathesis_would_find_a_defect(tmp_path):
    from helpers.schemathesis_run import run

    def prepare(world):
        world.service.table.parts = None

    found = run(tmp_path, cases=62, seed=1, prepare=prepare).failures
    assert any(": Server error" in text for text in found), found


@pytest.mark.long
@pytest.mark.timeout(400)
def test_schemathesis_finds_no_defect_and_nothing_undocumented(tmp_path):
    from helpers.schemathesis_run import run

    outcome = run(tmp_path, cases=600, seed=1)
    assert outcome.failures == []
    assert outcome.cases >= 600
    assert outcome.operations == len(operations()) - 1  # it leaves the document itself out


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "/"),
        ({"HTTP_X_FORWARDED_PREFIX": "/meta/"}, "/meta"),
        ({"HTTP_X_FORWARDED_PREFIX": "/a/b"}, "/a/b"),
        ({"HTTP_X_FORWARDED_PREFIX": "/meta", "REMOTE_ADDR": "10.9.9.9"}, "/"),  # no proxy of ours
        ({"HTTP_X_FORWARDED_PREFIX": "//evil.example"}, "/"),
        ({"HTTP_X_FORWARDED_PREFIX": "https://evil.example"}, "/"),
        ({"SCRIPT_NAME": "/below"}, "/below"),
        ({"SCRIPT_NAME": "/below", "HTTP_X_FORWARDED_PREFIX": "/meta"}, "/meta/below"),
    ],
)
def test_the_server_of_the_document_is_right_below_a_path(environ, url):
    trusted = (ip_network("10.1.2.3"),)
    assert (path_prefix({"REMOTE_ADDR": "10.1.2.3"} | environ, trusted) or "/") == url


def test_the_document_names_the_path_that_a_trusted_proxy_says(tmp_path):
    world = World(tmp_path, trusted_proxies=(ip_network(REMOTE),))
    try:
        found = world.call(
            "GET", "openapi.json", "nobody", {"X-Forwarded-Prefix": "/meta", "X-Forwarded-For": "10.0.0.9"}
        )
        assert found.json["servers"] == [{"url": "/meta"}]
        assert world.call("GET", "openapi.json", "nobody").json["servers"] == [{"url": "/"}]
    finally:
        world.close()
