"""deploy/alerts.yml: rules that Prometheus takes, about metrics that meta has, which fire when they should and only then."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
import yaml

from helpers.metrics import everything

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "alerts.yml"
FIRING = Path(__file__).parent / "alerts_fire.yml"

Duration = Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]*[smhd]$")]


class Rule(msgspec.Struct, rename={"keep": "for"}, forbid_unknown_fields=True):
    alert: Annotated[str, msgspec.Meta(pattern=r"^[A-Z][A-Za-z]+$")]
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]
    keep: Duration = "1s"


class Group(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    rules: list[Rule]


class File(msgspec.Struct, forbid_unknown_fields=True):
    groups: list[Group]


class Strict(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML takes: a key that is there twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(None, None, f"doubled key among {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


def rules(text):
    found = msgspec.convert(yaml.load(text, Strict), File, strict=True)
    return [rule for group in found.groups for rule in group.rules]


def strangers(expression, shown):
    """The metrics of an expression that meta does not show, and labels that they do not have."""
    for name, labels in re.findall(r"\b(meta_\w+)(?:\{([^}]*)\})?", expression):
        series = re.findall(rf"^{name}(?:\{{(.*)\}})? ", shown, re.MULTILINE)
        if not series:
            yield name
        for label in re.findall(r"(\w+)\s*[!=]", labels):
            if not any(f'{label}="' in one for one in series):
                yield f"{name}{{{label}}}"


def test_every_rule_is_whole_and_says_what_is_wrong():
    found = rules(RULES.read_text())
    assert len({rule.alert for rule in found}) == len(found)
    assert [rule.alert for rule in found if not rule.annotations.get("summary")] == []
    assert {rule.labels["severity"] for rule in found} == {"page", "warn"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "{alert: DriftStays, expr: max by (agent, version) (meta_drift_hosts) > 0, labels: {}, annotations: {}}",
            "field",
        ),
        ("{alert: A, expr: up, expr: up, labels: {}, annotations: {}}", "doubled key"),
        ("{alert: A, expr: up, for: 2 m, labels: {}, annotations: {}}", "Expected `str` matching regex"),
        ("{alert: A, expr: 1, labels: {}, annotations: {}}", "Expected `str`"),
    ],
)
def test_the_check_of_rules_can_fail(text, reason):
    with pytest.raises((yaml.YAMLError, msgspec.ValidationError), match=reason):
        rules(f"groups:\n- name: x\n  rules:\n  - {text}\n")


def test_the_rules_are_about_metrics_and_labels_that_meta_has(tmp_path):
    shown = everything(tmp_path)
    assert {
        rule.alert: wrong for rule in rules(RULES.read_text()) if (wrong := list(strangers(rule.expr, shown)))
    } == {}
    assert list(strangers('meta_ready + meta_redy + meta_hosts{stat="new"}', shown)) == [
        "meta_redy",
        "meta_hosts{stat}",
    ]


def test_every_rule_has_a_series_on_which_it_fires():
    tested = yaml.load(FIRING.read_text(), Strict)["tests"]
    fired = {case["alertname"] for test in tested for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == {rule.alert for rule in rules(RULES.read_text())}


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool here: apt-get install prometheus")
@pytest.mark.parametrize("command", [("check", "rules", RULES), ("test", "rules", FIRING)])
def test_prometheus_takes_the_rules_and_they_fire_when_they_should(command):
    done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
