"""Variables META_...: a misspelt one is refused in meta.env, and warned of in the environment."""

import pytest

from helpers.meta_server import meta
from meta.cli import cli, variables

NAMES = variables.known(cli)


def test_every_variable_of_the_help_is_known_and_the_tokens_too():
    assert {"META_LISTEN", "META_URL", "META_TOKEN", "META_DATABASE", "META_CA_FILE", "META_LOG_LEVEL"} <= NAMES


def test_a_misspelt_variable_in_meta_env_is_refused_with_its_line(tmp_path):
    (tmp_path / "meta.env").write_text(
        "# all of it\nMETA_LISTEN=:2000\n  export META_TARBALS=x\nOTHER=1\nMETA_XYZZY=1\n"
    )
    done = meta("check", "meta.env", directory=tmp_path)
    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first == "meta.env:3: META_TARBALS: unknown variable; did you mean META_TARBALLS?"
    assert second.startswith("meta.env:5: META_XYZZY: unknown variable; known are META_")


@pytest.mark.parametrize(
    "text",
    [
        "META_LISTEN=:2000 META_LISTNE=3",
        "export META_LISTEN=:2000 META_LISTNE=3",
        "export A=1 META_LISTNE=3",
        "A='1'; META_LISTNE=3",
        "export A=1 \\\nMETA_LISTNE=3",
        'A="it\'s"\nB=x#y META_LISTNE=3',
        "A=\\' META_LISTNE=3 # it's",
        "[ -f x ] && META_LISTNE=3",
        "A='one\ntwo' META_LISTNE=3",
    ],
)
def test_every_assignment_of_a_line_is_looked_at(text):
    [problem] = variables.problems(text, NAMES)
    assert (problem.path, problem.line) == ("META_LISTNE", text[: text.index("META_LISTNE")].count("\n") + 1)
    assert problem.text == "unknown variable; did you mean META_LISTEN?"


@pytest.mark.parametrize(
    "text",
    [
        "#META_LISTNE=3",
        "A=1 # META_LISTNE=3",
        "A='x META_LISTNE=3'",
        'A="\n META_LISTNE=3\n"',
        "A=META_LISTNE=3",
        "A=$META_LISTNE B=${META_LISTNE:-x y} C=$(cat x y) D=`cat x`; export E F=1",
        "",
        "  \t",
        "A=one\\\nMETA_LISTNE=3",
    ],
)
def test_what_is_quoted_or_a_comment_sets_nothing(text):
    assert variables.problems(text, NAMES) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("META_RECORDS = records.yaml", "a shell would run META_RECORDS as a command: remove the blank before its ="),
        (
            "export META_RECORDS =records.yaml",
            "a shell would run META_RECORDS as a command: remove the blank before its =",
        ),
        ("META_RECORDS= records.yaml", "sets no variable: write NAME=value"),
        ("META_RECORDS=my records.yaml", "sets no variable: write NAME=value"),
        ("META_RECORDS: records.yaml", "sets no variable: write NAME=value"),
        ("META-LISTEN=:2000", "sets no variable: write NAME=value"),
        ("META_URL=http://m/?a&b", "sets no variable: write NAME=value"),
        ("echo $META_LISTEN", "sets no variable: write NAME=value"),
        ("A=1; [ -f x ] && B=3", "sets no variable: write NAME=value"),
    ],
)
def test_a_line_of_meta_env_that_sets_nothing_is_refused(line, said):
    [problem] = variables.problems(f"# it's\nMETA_URL='x\n'\\\n\n{line}\nMETA_LISTEN=:2000\n", NAMES)
    assert (problem.path, problem.line) == ("", 5)
    assert problem.text.startswith(said)


@pytest.mark.parametrize(
    "name", ["MTEA_LISTEN", "METALISTEN", "MEAT_LISTEN", "METTA_LISTEN", "meta_listen", "_META_LISTEN"]
)
def test_a_slip_in_the_prefix_is_refused_in_meta_env_and_warned_of_in_the_environment(name):
    [problem] = variables.problems(f"\nexport {name}=3", NAMES)
    assert (problem.path, problem.line) == (name, 2)
    assert problem.text == "does not begin with META_, as all variables of meta do; did you mean META_LISTEN?"
    assert list(variables.near_misses([name], NAMES)) == [f"the variable {name} is unknown; did you mean META_LISTEN?"]


@pytest.mark.parametrize("name", ["BETA_URL", "TEAM_TOKEN", "URL", "ELVES_CONF", "MY_META_URL", "METADATA"])
def test_what_others_may_well_call_so_is_let_be(name):
    assert variables.problems(f"{name}=1", NAMES) == []
    assert list(variables.near_misses([name], NAMES)) == []


def test_a_good_meta_env_is_said_to_be_good(tmp_path):
    (tmp_path / "meta.env").write_text("META_LISTEN=:2000\nMETA_TOKEN=x\nELVES_CONF=conf\n")
    done = meta("check", "meta.env", directory=tmp_path)
    assert (done.returncode, done.stdout) == (0, "meta.env: no unknown variables, and only lines that set variables\n")
    assert meta("check", "none.env", directory=tmp_path).returncode == 2


def test_a_near_miss_in_the_environment_is_warned_of_and_the_command_goes_on(tmp_path):
    done = meta("db", "upgrade", directory=tmp_path, META_DATABSE="sqlite:///other.db")
    assert done.returncode == 0
    assert "warning: the variable META_DATABSE is unknown; did you mean META_DATABASE?" in done.stderr


@pytest.mark.long
def test_a_service_warns_of_every_variable_that_nothing_knows_and_tells_which_are_keys_of_its_file(tmp_path):
    given = {"META_TRUSTED_PROXIES": "127.0.0.1", "META_MAX_TARBALL": "1", "META_QUITE_OTHER": "x", "META_LISTNE": ":1"}
    done = meta("serve", "--check", "--listen", "127.0.0.1:0", directory=tmp_path, **given)
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        [
            "warning: the variable META_MAX_TARBALL is unknown: write maxTarball into the --config file",
            "warning: the variable META_TRUSTED_PROXIES is unknown: write trustedProxies into the --config file",
            "warning: the variable META_LISTNE is unknown; did you mean META_LISTEN?",
            "warning: the variable META_QUITE_OTHER is unknown",
        ],
    )
    done = meta("check", "none.env", directory=tmp_path, **given)
    assert "META_QUITE_OTHER" not in done.stderr


def test_a_variable_that_has_gone_away_is_warned_of_with_what_takes_its_place():
    gone = {"META_FORMER": "set META_LISTEN instead", "META_OTHER": "nothing"}
    assert list(variables.gone_away(["META_FORMER", "META_LISTEN"], gone)) == [
        "the variable META_FORMER is no longer a setting and is ignored: set META_LISTEN instead"
    ]
    assert variables.problems("META_FORMER=x", [*NAMES, *gone]) == []


@pytest.mark.parametrize("name", ["META_LISTEN", "METADATA", "META_COMPLETELY_OTHER", "META_HOME", "META_", "PATH"])
def test_what_is_right_or_not_for_us_is_passed_over_in_silence(name):
    assert list(variables.near_misses([name], NAMES)) == []
