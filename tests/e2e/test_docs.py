"""The documents say what is there: commands and their options, metrics, keys, links, the systemd unit, nginx before it."""

import inspect
import re
import shlex
import shutil
import subprocess

import click
import pytest
from click.testing import CliRunner

from helpers.documents import FENCED, ROOT, release_script
from helpers.metrics import everything
from meta import settings
from meta.cli import cli as meta
from meta.door.limits import IDLE
from updater.cli.main import main as updater

DOCUMENTS = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
SHOWING = [*DOCUMENTS, "meta.example.yaml", "records.example.yaml", "deploy/ops-meta.service", "deploy/alerts.yml"]
CODE = re.compile(r"`([^`\n]+)`|^    (.+)$|^Exec\w+=(.+)$", re.MULTILINE)
PROGRAMS = {"meta": meta, "updater": updater, "updater.pyz": updater}
OF_ELVES = [["control", "build"]]  # which its heartbeat module has, beside what takes its place here
NOTHING_ELSE = (
    "start",
    "stop",
    "run",
    "check",
    "restart",
    "status",
    "tail",
    "pid",
    "reload",
    "version",
)  # verbs of a service


def code(text):
    """The lines of code in a document: fenced, indented, quoted, with or without a prompt; or what a unit runs."""
    fenced = [line for block in FENCED.findall(text) for line in block.splitlines()]
    found = fenced + [next(filter(None, match.groups())) for match in CODE.finditer(text)]
    return [re.sub(r"^[$#] ", "", line).partition(" #")[0] for line in found]


def described(line):
    """The command lines in a line of code, each as a list of words that begins with its program."""
    for part in re.split(r"&&|\|\||;|(?<!\w)\||\$\(|\(", line):
        try:
            words = shlex.split(part.rstrip(" )"))
        except ValueError:  # a quotation goes on after what splits the line
            words = part.split()
        while words and (words[0] in ("sudo", "umask", "exec") or re.match(r"-|[A-Z_]+=|[0-9]+$|ops-meta$", words[0])):
            words.pop(0)
        name = words[0].rpartition("/")[2] if words else ""
        if (
            (name in PROGRAMS or name == "control")
            and len(words) > 1
            and re.fullmatch(r"-?[a-z][a-z-]*[|a-z]*", words[1])
        ):
            yield [name, *words[1:]]


def problem(words):
    """What the program says against this command line with --help behind it, "" if it shows the help."""
    name, *rest = words
    if name == "control":
        return next(filter(None, (refused_by_control(verb) for verb in rest[0].split("|"))), "")
    done = CliRunner().invoke(PROGRAMS[name], with_help(PROGRAMS[name], rest), prog_name=name)
    return "" if done.exit_code == 0 and done.output.startswith(f"Usage: {name}") else done.output


def with_help(command, words):
    """The words with --help behind the command's name: at the end, an option without its value would take it."""
    at = 0
    while isinstance(command, click.Group) and at < len(words) and not words[at].startswith("-"):
        command = command.commands.get(words[at])
        at += 1
    return [*words[:at], "--help", *words[at:]]


def refused_by_control(verb):
    """`./control VERB --help` where a verb has nothing else behind it; the others give their arguments to another program."""
    help_of = [verb, "--help"] if verb in NOTHING_ELSE else ["help"]
    done = subprocess.run([ROOT / "control", *help_of], capture_output=True, text=True, timeout=60, check=False)
    shown = re.search(rf"^  {re.escape(verb)} ", done.stdout, re.MULTILINE)
    return "" if done.returncode == 0 and shown else f"no ./control {verb}: {done.stderr}"


@pytest.mark.parametrize("document", SHOWING)
def test_every_command_line_that_is_shown_can_be_run(document):
    lines = [words for line in code((ROOT / document).read_text()) for words in described(line)]
    lines = [words for words in lines if words not in OF_ELVES]
    assert [(" ".join(words), wrong) for words in lines if (wrong := problem(words))] == []


@pytest.mark.parametrize("program", ["meta", "updater"])
def test_every_example_in_a_command_s_help_can_be_run(program):
    texts = [inspect.cleandoc(command.help or "") for command in commands(PROGRAMS[program])]
    examples = [
        line for text in texts for line in re.findall(r"^  (?=meta|updater)(.+?)(?:  .*)?$", text, re.MULTILINE)
    ]
    lines = [words for line in examples for words in described(line)]
    assert [(" ".join(words), wrong) for words in lines if (wrong := problem(words))] == []
    assert program != "meta" or len(lines) > 30


def commands(command):
    """A command and all below it."""
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from commands(below)


def test_the_readme_shows_many_command_lines():
    shown = [words for line in code((ROOT / "README.md").read_text()) for words in described(line)]
    assert len(shown) > 40
    assert ["meta", "set", "my-agent", "version=1.0.1", "--for", "prefix:web-", "--why", "try it"] in shown
    assert ["control", "demo"] in shown


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("sudo -u ops-meta /opt/x/bin/meta lable a", "No such command 'lable'"),
        ("x && meta set a --four x", "--four"),
        ("$ meta serve --listen", "Option '--listen' requires an argument"),
        ("./control strat meta", "no ./control strat"),
        ("./control start|stpo", "no ./control stpo"),
    ],
)
def test_the_check_of_command_lines_can_fail(line, wrong):
    (words,) = (words for one in code(f"    {line}") for words in described(one))
    assert wrong in problem(words)


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


def test_the_document_of_faults_has_every_class_in_both_tables_and_no_count_that_the_suite_outgrows():
    from faults.suite import CLASSES

    today, _, found_then = (ROOT / "docs" / "faults.md").read_text().partition("## What each class found")
    assert re.findall(r"^\| `(\w+)` ", today, re.M) == [*CLASSES] * 2
    assert re.findall(r"[0-9][0-9,]* (?:cases|states)", today) == []
    assert set(re.findall(r"^\*\*(\w+)\*\*", found_then, re.M)) == {*CLASSES}


def test_the_example_configuration_has_every_key_and_its_default():
    text = (ROOT / "meta.example.yaml").read_text()
    assert set(re.findall(r"^(?:# )?([a-zA-Z]+):", text, re.MULTILINE)) == set(settings.KEYS)
    read = settings.read(ROOT / "meta.example.yaml")
    assert settings.settle(read | {"database": None}) == settings.Settings()


def test_nginx_lets_go_of_a_kept_connection_before_meta_closes_it():
    """Else a beat may meet the end of it, and is answered with 502."""
    conf = (ROOT / "deploy" / "nginx.conf").read_text()
    [kept] = re.findall(r"^    keepalive_timeout ([0-9]+)s;", conf, re.MULTILINE)
    assert int(kept) < IDLE
    rows = (ROOT / "docs" / "operating-meta.md").read_text()
    assert f"| a kept connection without a request | {IDLE:g} s |" in rows
    assert f"`keepalive_timeout {kept}s` in nginx.conf" in rows


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


def ends_with(tmp_path, code, of_rollback, script):
    """Run a script in a shell that ends at the first failure, where `meta status` exits with `code`; what it called beside."""
    program, called = tmp_path / "meta", tmp_path / "called"
    status = f'status) exit {code} ;; history) echo 41 ;; rollback) echo "$@" >>{called}; exit {of_rollback} ;;'
    program.write_text(f'#!/bin/sh\ncase "$1" in {status} *) echo "$@" >>{called} ;; esac\n')
    program.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["sh", "-ec", script], env={"PATH": path}, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return done.returncode, called.read_text().splitlines() if called.exists() else []


@pytest.mark.parametrize("of_rollback", [0, 2])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 130])
@pytest.mark.parametrize("document", ["docs/shipping.md", "meta/cli/commands/history.py"])
def test_the_gate_of_a_document_ends_as_its_watch_and_takes_back_only_what_failed(
    document, code, of_rollback, tmp_path
):
    [gate] = re.findall(r"^ {4,6}(meta status \S+ --watch --within .*?\})$", (ROOT / document).read_text(), re.M | re.S)
    ended, called = ends_with(tmp_path, code, of_rollback, gate)
    assert ended == code
    assert [line.split()[:2] for line in called] == ([["rollback", "--agent"]] if code == 1 else [])


@pytest.mark.parametrize("of_rollback", [0, 2])
@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 130])
def test_the_script_of_the_readme_ends_as_its_watch_and_goes_back_to_before_it(code, of_rollback, tmp_path):
    ended, called = ends_with(tmp_path, code, of_rollback, release_script())
    assert ended == code
    edits = [line.split()[0] for line in called]
    assert edits == (["set", "set", "unset"] if code == 0 else ["set", "rollback"] if code == 1 else ["set"])
    assert code != 1 or called[-1].startswith("rollback --agent my-agent 41 --yes")
