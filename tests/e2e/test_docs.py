"""The documents say what is there: commands and their options, metrics, keys, links, the systemd unit, nginx before it."""

import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from helpers.metrics import everything
from meta import config
from meta.cli import cli as meta
from updater.cli import main as updater

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
CODE = re.compile(r"`([^`\n]+)`|^    (.+)$", re.MULTILINE)
PROGRAMS = {"meta": meta, "updater": updater}


def code(text):
    return [match[1] or match[2].partition(" #")[0] for match in CODE.finditer(text)]


def described(line):
    """The commands in a line of code, each as (command, the options it is given)."""
    for part in re.split(r"&&|\|\||;|\||\$\(", line):
        words = part.split()
        while words and (words[0] in ("sudo", "umask", "exec") or re.match(r"-|[A-Z_]+=|[0-9]+$|ops-meta$", words[0])):
            words.pop(0)
        program = PROGRAMS.get(words[0].rpartition("/")[2]) if words else None
        if program and len(words) > 1 and re.fullmatch(r"[a-z][a-z-]*", words[1]):
            yield program, words[1:]


def problem(command, words):
    """What is wrong with this line, "" if nothing is."""
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        found = command.commands.get(words[0])
        if found is None:
            return f"no command {words[0]}"
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} - known - {"--help", "-h"}
    return f"no options {unknown}" if unknown else ""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_their_options_exist(document):
    found = [
        f"{line}: {wrong}"
        for line in code((ROOT / document).read_text())
        for command, words in described(line)
        if (wrong := problem(command, words))
    ]
    assert found == []


def test_the_check_of_commands_can_fail():
    assert [problem(*one) for one in described("sudo -u ops-meta /opt/x/bin/meta lable a && meta set a --four x")] == [
        "no command lable",
        "no options {'--four'}",
    ]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_operating_lists_just_the_metrics_there_are(tmp_path):
    there = set(re.findall(r"^# TYPE (\w+)", everything(tmp_path), re.MULTILINE))
    text = (ROOT / "docs" / "operating-meta.md").read_text()
    listed = {re.sub(r"\{.*", "", name) for name in re.findall(r"^\| `(meta_[^`]+)` \|", text, re.MULTILINE)}
    assert listed == there
    used = set(re.findall(r"\b(meta_\w+)", text))
    assert {re.sub("_bucket$", "", name) for name in used} == there


def test_the_example_configuration_has_every_key_and_its_default():
    text = (ROOT / "meta.example.yaml").read_text()
    assert set(re.findall(r"^(?:# )?([a-zA-Z]+):", text, re.MULTILINE)) == set(config.KEYS)
    read = config.read(ROOT / "meta.example.yaml")
    assert config.settle(read | {"database": None}) == config.Settings()


@pytest.fixture
def unit(tmp_path):
    """The unit with a program that is there."""
    file = tmp_path / "ops-meta.service"
    text = (ROOT / "deploy" / "ops-meta.service").read_text()
    file.write_text(text.replace("/opt/ops-meta/.venv/bin/meta", "/bin/true"))
    return file


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_takes_the_unit_and_finds_it_shut_in(unit):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    score = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert score.returncode == 0, score.stdout
