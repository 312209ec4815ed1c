"""What both commands take and show: text in UTF-8, files of any name, and every character of a message."""

import os
import subprocess
import sys

import pytest

from helpers.meta_server import REPOSITORY
from updater.kernel.processes import Table
from updater.service.command_line import a_path

N, Z = b"\xc2\xa0", b"\xe2\x80\x8b"


def ran(directory, module, *arguments, given=b""):
    """(exit code, stdout, stderr) of a command whose arguments are bytes."""
    words = [os.fsencode(sys.executable), b"-m", module.encode(), *arguments]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("META_")}
    environment = inherited | {
        "PYTHONPATH": str(REPOSITORY),
        "META_URL": "http://127.0.0.1:1",
        "META_TOKEN": "ou_o_abc",
    }
    done = subprocess.run(
        words, cwd=directory, env=environment, input=given, capture_output=True, timeout=60, check=False
    )
    assert b"Traceback" not in done.stderr
    assert all(line.isprintable() for line in done.stderr.decode().splitlines())
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("module", ["meta.cli", "updater.cli"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_an_error_in_one_sentence(module, unbuffered):
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    sentence = f"{module.removesuffix('.cli')}: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, sentence)


NO_UTF_8 = {
    "a name": ([b"token", b"new", b"al\xff", b"--role", b"viewer"], r"""'NAME': "al\xff" (ends with the byte FF)"""),
    "a pattern": (
        [b"token", b"enrolment", b"rack", b"--hosts", b"r7\xff*"],
        r"""'--hosts': "r7\xff*" (with the byte FF)""",
    ),
    "a version": (
        [b"ban", b"a", b"9\xff", b"--why", b"x", b"--yes"],
        r"""'VERSION': "9\xff" (ends with the byte FF)""",
    ),
    "a reason": ([b"ban", b"a", b"9", b"--why", b"caf\xe9"], r"""'--why': "caf\xe9" (ends with the byte E9)"""),
    "a glob of hosts": ([b"hosts", b"--name", b"w\xff*"], r"""'--name': "w\xff*" (with the byte FF)"""),
    "a label": ([b"hosts", b"--label", b"e\xff=1"], r"""'--label': "e\xff=1" (with the byte FF)"""),
    "a version of hosts": ([b"hosts", b"--version", b"1\xff"], r"""'--version': "1\xff" (ends with the byte FF)"""),
    "a host": ([b"host", b"web\xff"], r'"web\xff" (ends with the byte FF)'),
    "a selector": ([b"set", b"a", b"version=1", b"--for", b"prefix:\xff"], r'"prefix:\xff" (ends with the byte FF)'),
    "an address": (
        [b"hosts", b"--url", b"http://a\xff"],
        r"""'--url' (env var: 'META_URL'): "http://a\xff" (ends with the byte FF)""",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), NO_UTF_8.values(), ids=NO_UTF_8.keys())
def test_an_argument_that_is_no_utf_8_is_named(tmp_path, arguments, words):
    code, _, said = ran(tmp_path, "meta.cli", *arguments)
    assert (code, f"{words} is not UTF-8" in said) == (2, True), said


def test_so_it_is_by_the_updater(tmp_path):
    code, _, said = ran(tmp_path, "updater.cli", b"why", b"a\xff")
    assert (code, r'"a\xff" (ends with the byte FF) is not UTF-8' in said) == (2, True), said


RECORDS = b"agents: [{name: a, version: 1, tarball: http://r.example}]\n"
CFG = b'{"server": "http://127.0.0.1:1", "interval": 60}'


@pytest.mark.parametrize("name", [b"r\xff" + N + b".yaml", "r\u00e9.yaml".encode()])
def test_a_file_may_be_called_anything_and_is_shown_on_one_line(tmp_path, name):
    """The names are wrapped by `meta check` and by the updater, which say what is well."""
    path = os.path.join(os.fsencode(tmp_path), name)
    for module, arguments, content in (
        ("meta.cli", [b"check"], RECORDS),
        ("updater.cli", [b"run", b"--check", b"-c"], CFG),
    ):
        with open(path, "wb") as file:
            file.write(content)
        code, out, said = ran(tmp_path, module, *arguments, path)
        assert (code, out.count("\n"), out.rstrip("\n").isprintable()) == (0, 1, True), said


NAMED = {
    "check": ("meta.cli", [b"check", b"%s"]),
    "check of meta.env": ("meta.cli", [b"check", b"%s.env"]),
    "apply": ("meta.cli", [b"apply", b"%s"]),
    "serve --records": ("meta.cli", [b"serve", b"--check", b"--records", b"%s"]),
    "serve --config": ("meta.cli", [b"serve", b"--check", b"--config", b"%s"]),
    "--token-file": ("meta.cli", [b"hosts", b"--token-file", b"%s"]),
    "elves -c": ("meta.cli", [b"elves", b"--check", b"-c", b"%s"]),
    "updater -c": ("updater.cli", [b"once", b"-c", b"%s"]),
    "updater enrol": ("updater.cli", [b"enrol", b"-c", b"cfg.json", b"--token-file", b"%s"]),
    "updater unpack": ("updater.cli", [b"unpack", b"%s", b"into"]),
}


@pytest.mark.parametrize(("module", "arguments"), NAMED.values(), ids=NAMED.keys())
def test_the_name_of_a_file_that_is_not_there_is_shown_with_all_its_characters(tmp_path, module, arguments):
    (tmp_path / "cfg.json").write_bytes(CFG)
    name = b"x" + Z + N + b"\xff"
    code, _, said = ran(tmp_path, module, *(word.replace(b"%s", name) for word in arguments))
    assert code != 0
    assert r"x\u200b\u00a0\xff" in said
    assert "(with U+200B ZERO WIDTH SPACE, U+00A0 NO-BREAK SPACE, the byte FF)" in said


@pytest.mark.parametrize(("module", "arguments"), NAMED.values(), ids=NAMED.keys())
def test_the_name_of_a_file_is_one_line(tmp_path, module, arguments):
    (tmp_path / "cfg.json").write_bytes(CFG)
    code, _, said = ran(tmp_path, module, *(word.replace(b"%s", b"x\ny") for word in arguments))
    assert (code, r'"x\ny' in said and "has a line break" in said) == (2, True), said


def test_a_group_of_commands_without_one_shows_its_help(tmp_path):
    _, _, said = ran(tmp_path, "meta.cli", b"token")
    assert said.startswith("Usage: meta token")


def test_an_updater_whose_root_has_odd_characters_sees_the_processes_of_its_agents(tmp_path):
    install = os.path.join(os.fsencode(tmp_path), b"r\xff" + N, b"agent/1")
    os.makedirs(install)
    root = a_path().convert(os.fsdecode(os.path.dirname(os.path.dirname(install))), None, None)
    with subprocess.Popen(["sleep", "100"], cwd=install) as one:
        try:
            assert one.pid in {found.pid for found in Table().below(root / "agent/1")}
        finally:
            one.kill()


def test_an_option_that_does_not_exist_is_shown_with_all_its_characters(tmp_path):
    code, _, said = ran(tmp_path, "meta.cli", b"hosts", b"--agent" + Z)
    assert (code, r"'--agent\u200b'" in said) == (2, True), said


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"web\xc2\xa0web-2\n", r'"web\u00a0web-2" (with U+00A0 NO-BREAK SPACE)'),
        ("web-1\n".encode("utf-16"), "stdin: looks like UTF-16; save it as UTF-8"),
        (b"web-1\nweb-2\xff\n", "stdin:2: not UTF-8: byte 0xff"),
    ],
)
def test_names_on_stdin_are_split_only_at_what_is_a_blank_to_everybody(tmp_path, given, words):
    code, _, said = ran(tmp_path, "meta.cli", b"label", b"-", b"env=prod", b"--yes", given=given)
    assert (code, words in said) == (2, True), said
