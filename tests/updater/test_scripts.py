"""Which files of its command line an interpreter runs; what else stands there is data."""

import pytest

from updater.scripts import is_interpreter, run_by


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("python3 agent.py app.log", ["agent.py"]),
        ("python3.11 -B -W ignore -Xdev agent.py -c x", ["agent.py"]),
        ("python3 -Wignore -- agent.py", ["agent.py"]),
        ("python3 -c print() app.log", []),
        ("python3 -Bm json.tool cfg.json", []),
        ("python3 - app.log", []),
        ("python3", []),
        ("sh -e ./run.sh", ["./run.sh"]),
        ("bash --norc -o pipefail -x run.sh", ["run.sh"]),
        ("sh -ec true run.sh", []),
        ("sh -s run.sh", []),
        ("-bash", []),
        ("perl -w -Mstrict -I lib agent.pl", ["agent.pl"]),
        ("perl -lne print app.log", []),
        ("ruby -r json agent.rb", ["agent.rb"]),
        ("php -c php.ini -f agent.php", ["agent.php"]),
        ("lua -e x() app.log", []),
        ("node --require ./trace.js server.js", ["server.js"]),
        ("node --eval=x app.log", []),
        ("node -pe x app.log", []),
        ("gawk {print} app.log", []),
        ("gawk -F : -f agent.awk app.log", ["agent.awk"]),
        ("mawk -fagent.awk app.log", ["agent.awk"]),
        ("dotnet --depsfile a.json agent.dll", ["agent.dll"]),
        ("deno run agent.ts", ["agent.ts"]),
        ("java -Dhome=/a/1 -jar agent.jar /x", ["agent.jar"]),
        ("java -cp /lib/a.jar:lib/* -Xmx1g Main app.log", ["/lib/a.jar", "lib/", "Main"]),
        ("java --module-path=mods -m agent/Main app.log", ["mods"]),
        ("busybox sh run.sh", ["run.sh"]),
        ("tail -f agent.py", []),
        ("sleep 10", []),
    ],
)
def test_only_what_stands_where_a_script_does_is_run(line, run):
    program, *rest = line.split()
    assert run_by(f"/usr/bin/{program.lstrip('-')}", [program, *rest]) == run


def test_one_program_of_many_names_is_what_it_is_called_as():
    assert run_by("/bin/busybox", ["sh", "./run.sh"]) == ["./run.sh"]
    assert run_by("/bin/busybox", ["tail", "-f", "run.sh"]) == []


def test_where_the_program_cannot_be_seen_its_name_has_to_do():
    assert run_by("", ["/usr/bin/python3", "agent.py"]) == ["agent.py"]
    assert [is_interpreter(one) for one in ("python3.11", "java", "bash", "sleep")] == [True, True, True, False]
