"""Which files of its command line an interpreter runs; what else stands there is data."""

import pytest

from updater.kernel.ownership.interpreted import is_interpreter, run_by


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
        ("bash +x run.sh", ["run.sh"]),
        ("dash -oe nounset +o noglob run.sh", ["run.sh"]),
        ("bash -O extglob +O dotglob - run.sh", ["run.sh"]),
        ("bash +c true run.sh", []),
        ("rbash -eo pipefail run.sh", ["run.sh"]),
        ("bash-5.2 run.sh", ["run.sh"]),
        ("tcsh -f run.csh", ["run.csh"]),
        ("fish -C true run.fish", ["run.fish"]),
        ("python3.13t agent.py", ["agent.py"]),
        ("python3.11-dbg -X dev agent.py", ["agent.py"]),
        ("pypy3.10-c agent.py", ["agent.py"]),
        ("perl5.36-x86_64-linux-gnu -I lib agent.pl", ["agent.pl"]),
        ("ruby-mri --enable yjit agent.rb", ["agent.rb"]),
        ("php8.2 --define x=1 --file=agent.php", ["agent.php"]),
        ("tclsh8.6 -encoding utf-8 agent.tcl", ["agent.tcl"]),
        ("node --env-file .env --title x -r ./trace.js --import x server.js", ["server.js"]),
        ("node --max_http_header_size 8000 --env-file=.env server.js", ["server.js"]),
        ("node --max-old-space-size=99 server.js", ["server.js"]),
        ("node-exporter agent.py", []),
        ("gawk --assign x=1 --file agent.awk app.log", ["agent.awk"]),
        ("mawk -W interactive {print} app.log", []),
        ("expect -d agent.exp", ["agent.exp"]),
        ("deno run --allow-net -c deno.json agent.ts", ["agent.ts"]),
        ("bun --port 80 run --watch agent.ts", ["agent.ts"]),
        ("java --add-opens java.base/java.lang=ALL-UNNAMED --add-modules java.sql -jar agent.jar x", ["agent.jar"]),
        ("java --add-opens=java.base/java.lang=ALL-UNNAMED --limit-modules java.base Main app.log", ["Main"]),
        ("java --add-exports a/b=c --add-reads a=b --patch-module a=b --source 17 agent.java", ["agent.java"]),
        ("java --enable-native-access ALL-UNNAMED --upgrade-module-path up -p mods -m agent/Main", ["up", "mods"]),
        ("java -cp lib.jar -jar -Xmx1g agent.jar", ["agent.jar"]),
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
