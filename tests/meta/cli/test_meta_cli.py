"""The commands that end: help, check, db, reload without a meta, and everything that keeps `serve` from starting."""

import socket
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from helpers.databases import NEWEST
from helpers.meta_server import REPOSITORY, meta
from meta.cli import SECTIONS, cli

GOOD = "agents:\n- {name: a, version: 1.0.0, tarball: http://r/a}\n"
BAD = "agents:\n- {name: a/b, version: 1.0.0, tarball: http://r/a}\n- {name: b, verison: 1, tarball: http://r}\n"
BAD_AS_TOLD = [
    "r.yaml:2: agents[0].name: name \"a/b\" is not 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit",
    "r.yaml:3: agents[1].verison: unknown key; did you mean version?",
    "r.yaml:3: agents[1]: version is missing",
]


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "r.yaml").write_text(GOOD)
    return tmp_path


def test_help_teaches_the_whole_job(directory):
    done = meta("--help", directory=directory)
    assert done.returncode == 0
    for line in ("meta publish my-agent-1.0.1.tar.gz", "meta serve --records records.yaml --tarballs ./tarballs"):
        assert line in done.stdout


def test_the_help_of_serve_names_its_variables(directory):
    shown = meta("serve", "--help", directory=directory).stdout
    for variable in ("META_CONFIG", "META_RECORDS", "META_LISTEN", "META_DATABASE", "META_TARBALLS"):
        assert variable in shown


def commands(group=cli, words=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_teaches_by_example(words):
    shown = CliRunner().invoke(cli, [*words, "--help"], prog_name="meta").output
    assert "Example" in shown
    assert f"meta {' '.join(words)}" in shown.partition("Example")[2]


def test_every_command_is_listed_under_some_heading():
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(cli.commands)


def test_help_imports_nothing_slow(directory):
    program = "import sys; import meta.cli; print([m for m in sys.modules if m.split('.')[0] in SLOW])"
    slow = "SLOW = {'requests', 'rich', 'msgspec', 'yaml', 'sqlalchemy', 'flask', 'httptools', 'uvloop', 'hashlib'}; "
    done = subprocess.run(
        [sys.executable, "-c", slow + program], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout == "[]\n"


def test_version(directory):
    assert meta("--version", directory=directory).stdout.startswith("meta ")


def test_check_says_that_a_file_may_be_used(directory):
    done = meta("check", "r.yaml", directory=directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, "r.yaml: 1 agent, no errors\n", "")


@pytest.mark.parametrize("command", [["check"], ["serve", "--records"]])
def test_a_file_with_errors_is_refused_with_all_of_them(directory, command):
    (directory / "r.yaml").write_text(BAD)
    done = meta(*command, "r.yaml", directory=directory)
    assert (done.returncode, done.stderr.splitlines()) == (2, BAD_AS_TOLD)


def test_check_passes_on_what_ops_meta_ignores(directory):
    (directory / "cfg.json").write_text('{"agents": [{}]}')
    done = meta("check", "cfg.json", directory=directory)
    assert (done.returncode, done.stderr) == (
        0,
        "warning: cfg.json:1: agents[0]: has no default; skipped, as ops-meta does\n",
    )


def test_the_database_can_be_made_beforehand(directory):
    done = meta("db", "upgrade", directory=directory)
    assert (done.returncode, done.stdout) == (0, f"sqlite:///var/meta.db is at revision {NEWEST}\n")
    assert (directory / "var/meta.db").is_file()


def test_options_come_from_the_environment_too(directory):
    done = meta("db", "upgrade", directory=directory, META_DATABASE="sqlite:///other.db")
    assert done.stdout == f"sqlite:///other.db is at revision {NEWEST}\n"


def test_reload_without_a_meta_says_so(directory):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = meta("reload", "--url", url, directory=directory)
    sentence = f"meta: no meta answers at {url} (Connection refused): is it running, and is META_URL right?\n"
    assert (done.returncode, done.stderr) == (1, sentence)


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (["--records", "none.yaml"], 2, "none.yaml: cannot be read: No such file or directory"),
        (["--records", "r.yaml", "--listen", "2000"], 2, '"2000" is not HOST:PORT'),
        (["--records", "r.yaml", "--listen", "192.0.2.1:0"], 2, "cannot listen on 192.0.2.1:0: Cannot assign"),
        (["--records", "r.yaml", "--tarballs", "none"], 2, "the tarball directory none does not exist"),
        (["--records", "r.yaml", "--listen", "127.0.0.1:0", "--database", "meta.db"], 2, "the database is no URL like"),
        (
            ["--records", "r.yaml", "--listen", "127.0.0.1:0", "--database", "sqlite:///r.yaml"],
            1,
            "file is not a database",
        ),
        (
            ["--records", "r.yaml", "--listen", "127.0.0.1:0", "--database", "sqlite:////proc/no/meta.db"],
            1,
            "cannot create the database",
        ),
    ],
)
def test_serve_says_in_one_sentence_why_it_does_not_start(directory, options, code, why):
    done = meta("serve", *options, directory=directory)
    assert done.returncode == code
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told(directory):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        done = meta("serve", "--records", "r.yaml", "--listen", address, directory=directory)
    assert not (directory / "var").exists()
    sentence = (
        f"meta: {address} is in use: stop the program that listens there, or choose another address with --listen\n"
    )
    assert (done.returncode, done.stderr) == (1, sentence)


def test_the_example_of_the_repository_passes(directory):
    assert meta("check", str(REPOSITORY / "records.example.yaml"), directory=directory).returncode == 0


@pytest.mark.parametrize(
    ("library", "extra", "command"),
    [
        ("psycopg", "postgresql", ["db", "upgrade", "--database", "postgresql://127.0.0.1:9/x"]),
        ("thriftpy2", "elves", ["elves", "-c", "conf.properties"]),
    ],
)
def test_what_lacks_an_extra_names_the_command_that_brings_it(directory, library, extra, command):
    (directory / "conf.properties").write_text("mq.ip=127.0.0.1\n")
    lacking = directory / "lacking"
    lacking.mkdir()
    (lacking / f"{library}.py").write_text(f"raise ModuleNotFoundError('No module', name='{library}')\n")
    done = meta(*command, directory=directory, PYTHONPATH=f"{lacking}:{REPOSITORY}")
    assert done.returncode != 0
    assert f"the Python package {library} is not installed: run ./control install {extra}\n" in done.stderr
    assert "Traceback" not in done.stderr
