"""Control scripts that no kernel runs, or none on this machine: what is said of each, at a publish, on a host, and of one that
is there already. Kinds of public reports: files that "are not there" and are, scripts that only their author's shell runs."""

import ast
import os
import re
import shutil
import struct
import subprocess
import sys

import pytest

from helpers.agents import HEALTHY, install, members
from lab import agents as lab_agents
from updater.artifact import runnable
from updater.host import control_script
from updater.reconcile.cycle import run

PATH = os.environ["PATH"]


@pytest.fixture
def program(tmp_path):
    def make(content):
        file = tmp_path / "control"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        file.chmod(0o755)
        return file

    return make


FORMS = {
    "nothing": (b"", "it is empty"),
    "no first line": (b"echo started\n", "neither a program (ELF) nor does it begin with `#!`: only a shell"),
    "a blank before it": (b" #!/bin/sh\n", "nor does it begin with `#!`"),
    "a blank line before it": (b"\n#!/bin/sh\n", "nor does it begin with `#!`"),
    "a blank within it": (b"# !/bin/sh\n", "nor does `# !`: only a shell"),
    "no exclamation mark": (b"#/bin/bash\n", "nor does `# !`: only a shell"),
    "CRLF": (b"#!/bin/sh\r\necho started\r\n", "its first line ends in CR LF"),
    "CRLF after an option": (b"#!/usr/bin/env python3\r\n", "its first line ends in CR LF"),
    "the line ends of old Macs": (b"#!/bin/sh\recho started\r", "its first line ends in CR LF"),
    "UTF-8 with a mark": (b"\xef\xbb\xbf#!/bin/sh\n", "it begins with a byte order mark"),
    "UTF-16": ("#!/bin/sh\n".encode("utf-16"), "it begins with a byte order mark"),
    "no interpreter": (b"#!\n", "names no interpreter"),
    "only blanks": (b"#!  \t\n", "names no interpreter"),
    "a long name": (b"#!/" + b"x" * 300 + b"\n", "longer than the 256 bytes"),
    "a PE program": (b"MZ\x90\x00" + b"\0" * 60, "neither a program (ELF)"),
    "a Mach-O program": (b"\xcf\xfa\xed\xfe" + b"\0" * 60, "neither a program (ELF)"),
    "a jar": (b"PK\x03\x04" + b"\0" * 60, "neither a program (ELF)"),
}


@pytest.mark.parametrize(("content", "words"), FORMS.values(), ids=FORMS.keys())
def test_what_no_kernel_runs_is_said_in_words(program, content, words):
    assert words in runnable.form_problem(program(content))


HIDDEN = {
    "a no-break space": (
        "#!/bin/sh\u00a0\n",
        '"/bin/sh\\u00a0" (ends with U+00A0 NO-BREAK SPACE): no program is called that',
    ),
    "a no-break space before the name": ("#!\u00a0/bin/sh\n", '"\\u00a0/bin/sh" (with U+00A0 NO-BREAK SPACE)'),
    "a zero width space": ("#!/bin/sh\u200b -e\n", "U+200B ZERO WIDTH SPACE"),
    "a no-break space, by env": ("#!/usr/bin/env python3\u00a0\n", "U+00A0 NO-BREAK SPACE"),
    "a vertical tab, by env": ("#!/usr/bin/env python3\x0b\n", '"python3\\u000b" (ends with U+000B'),
    "a file separator, by env": ("#!/usr/bin/env python3\x1c\n", '"python3\\u001c" (ends with U+001C'),
    "a form feed": ("#!/bin/sh\x0c\n", "U+000C"),
    "a no-break space, by env -S": ("#!/usr/bin/env -S python3\u00a0-u\n", "U+00A0 NO-BREAK SPACE"),
}


@pytest.mark.parametrize(("content", "words"), HIDDEN.values(), ids=HIDDEN.keys())
def test_an_interpreter_that_is_misspelt_by_what_nobody_sees_is_shown(program, content, words):
    assert words in runnable.form_problem(program(content))


LINES = {
    "one argument": b"{} -a  b\t c \t\n",
    "tabs": b"\t{}\t-a\t\n",
    "a no-break space": b"{}\xc2\xa0\n",
    "an ideographic space and an argument": b"{}\xe3\x80\x80 -a\n",
    "a vertical tab": b"{}\x0b\n",
    "a file separator in the argument": b"{} -a\x1c\n",
    "no UTF-8": b"{}\xff -\xff\n",
    "no end": b"{} -a ",
    "a NUL": b"{}\0 -a\n",
    "a NUL in the argument": b"{} -a\0 -b\n",
    "a name as long as the line": b"{:x<253}\n",
    "a name one byte too long": b"{:x<254}\n",
    "a name too long, but for a blank": b"{:x<253} -a\n",
    "a name too long": b"{:x<300}\n",
    "an argument that is cut": b"{} " + b"y" * 400 + b"\n",
}
SHOW = "#!{}\nimport os, sys\nsys.stdout.write(repr([*map(os.fsencode, sys.argv)]))\n"


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_a_first_line_is_read_as_the_kernel_reads_it(program, tmp_path, monkeypatch, line):
    """The interpreter is a script that shows its own name and what it was given."""
    monkeypatch.chdir(tmp_path)
    file = program(b"#!" + filled(line))
    read = runnable.interpreter(file.read_bytes())
    if read.is_cut:
        with pytest.raises(OSError, match="Exec format error"):
            subprocess.run([file], timeout=20, check=False)
        return
    (tmp_path / read.name).write_text(SHOW.format(sys.executable))
    (tmp_path / read.name).chmod(0o755)
    done = subprocess.run([file], capture_output=True, timeout=20, check=True)
    given = [os.fsencode(read.argument)] if read.argument else []
    assert ast.literal_eval(done.stdout.decode()) == [os.fsencode(read.name), *given, os.fsencode(file)]


def filled(line):
    """With the interpreter's name, `show`, for {}, and {:x<N} as it with x up to N bytes."""
    pad = re.search(rb"{:x<(\d+)}", line)
    return line.replace(pad[0], b"show".ljust(int(pad[1]), b"x")) if pad else line.replace(b"{}", b"show")


def elf(loader):
    """The head of a 64-bit program that asks for this dynamic loader."""
    head = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return (
        head + struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(loader) + 1, len(loader) + 1, 1) + loader.encode() + b"\0"
    )


MISSING = {
    "a shell": ("#!/nonexistent/sh\n", "its interpreter /nonexistent/sh is not on this machine"),
    "a shell, after a blank": ("#! /nonexistent/sh -e\n", "its interpreter /nonexistent/sh is not"),
    "a directory": ("#!/\n", "its interpreter / is not an executable file"),
    "a file without a run bit": ("#!/etc/passwd\n", "its interpreter /etc/passwd is not an executable file"),
    "by env": ("#!/usr/bin/env no-such-python\n", "no-such-python is not on the PATH of this machine"),
    "by env -S": ("#!/usr/bin/env -S LANG=C no-such-python -u\n", "no-such-python is not on the PATH"),
    "by env, with an option": ("#!/usr/bin/env sh -e\n", "called `sh -e`, blanks included: write `env -S sh -e`"),
    "by env -S, after options": (
        "#!/usr/bin/env -S -vu LANG -C / --unset=TZ --unset HOME -uX A=1 no-such-python\n",
        "no-such-python is not on the PATH",
    ),
    "by env, of its own, but not there": (
        "#!/usr/bin/env ./bin/python\n",
        "its interpreter ./bin/python is not on this",
    ),
    "by env, a file without a run bit": (
        "#!/usr/bin/env /etc/passwd\n",
        "its interpreter /etc/passwd is not an executable file",
    ),
    "by env, of its own, with an option": ("#!/usr/bin/env /bin/sh -e\n", "write `env -S /bin/sh -e`"),
    "of its own, but not there": ("#!bin/python\n", "its interpreter bin/python is not on this machine"),
    "a loader of another C library": (elf("/lib/ld-musl-none.so.1"), "its interpreter /lib/ld-musl-none.so.1 is not"),
}


@pytest.mark.parametrize(("content", "words"), MISSING.values(), ids=MISSING.keys())
def test_an_interpreter_that_is_missing_is_named(program, content, words):
    file = program(content)
    assert runnable.form_problem(file) == ""
    assert words in runnable.missing(file, PATH)


GOOD = {
    "sh": "#!/bin/sh\n",
    "with an option": "#!/bin/sh -e\n",
    "after a tab": "#!\t/bin/sh\t-e\n",
    "without an end": "#!/bin/sh",
    "by env": "#!/usr/bin/env sh\n",
    "by env -S": "#!/usr/bin/env -S LANG=C sh -e\n",
    "env alone": "#!/usr/bin/env\n",
    "CRLF after the first line": "#!/bin/sh\necho started\r\n",
    "a long line of options": "#!/bin/sh " + "x" * 400 + "\n",
    "a static program": elf("").replace(b"\x03\0\0\0\x04", b"\x01\0\0\0\x04"),
    "a program that is cut short": b"\x7fELF\x02\x01",
}


BY_ENV = {
    "an option with an argument": "-S -u LD_PRELOAD sh -e",
    "a long option with an argument": "-S --unset FOO sh",
    "a long option with its argument": "-S --unset=FOO -vuBAR sh",
    "quotes": '-S "sh" -e',
    "quotes within": "-S s'h' -e",
    "a blank that is escaped": r"-S sh\_-e",
    "a program of its own": "./bin/sh",
    "a program of its own, with options": "-S ./bin/sh -e",
    "another directory": "-S -C / sh",
    "another directory and a program there": "-S -C bin ./sh",
    "a variable": "-S ${OWN}/sh",
    "a PATH of its own": "-S PATH={later}/bin:/bin own-sh",
    "no environment": "-S -i sh",
    "the end of the options": "-S -v -- sh",
    "a remark": "-S sh # of ours",
    "a program where it will be": "{later}/bin/sh",
    "a program where it will be, with options": "-S A=1 {later}/bin/sh -e",
    "an option of a newer env": "-S --argv0=x sh",
}


@pytest.mark.parametrize("line", BY_ENV.values(), ids=BY_ENV.keys())
def test_what_env_can_run_has_no_problem(tmp_path, monkeypatch, line):
    """And it runs where it will be, which is the proof, but for what needs a newer env than hosts have."""
    staging, later = tmp_path / ".1.new", tmp_path / "1"
    (staging / "bin").mkdir(parents=True)
    for name in ("sh", "own-sh"):
        shutil.copy("/bin/sh", staging / "bin" / name)
    file = staging / "control"
    file.write_text(f"#!/usr/bin/env {line.replace('{later}', str(later))}\necho started\n")
    file.chmod(0o755)
    assert runnable.problem(file, PATH, later) == ""
    staging.rename(later)
    monkeypatch.setenv("OWN", str(later / "bin"))
    if "argv0" not in line:
        done = subprocess.run([later / "control"], cwd=later, capture_output=True, text=True, timeout=20, check=False)
        assert done.stdout == "started\n", done.stderr


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD.keys())
def test_what_can_run_has_no_problem(program, content):
    assert runnable.problem(program(content), PATH) == ""


def test_the_programs_of_this_machine_can_run(program, tmp_path):
    for name in ("sh", "ls", "env"):
        shutil.copy(shutil.which(name), tmp_path / "control")
        assert runnable.problem(tmp_path / "control", PATH) == ""


def test_an_interpreter_that_the_version_brings_along_is_found_where_it_will_be(tmp_path):
    staging, later = tmp_path / ".1.new", tmp_path / "1"
    (staging / "bin").mkdir(parents=True)
    shutil.copy("/bin/sh", staging / "bin" / "sh")
    file = staging / "control"
    for line in ("#!bin/sh\n", f"#!{later}/bin/sh\n"):
        file.write_text(line)
        assert runnable.problem(file, PATH, later) == ""
    file.write_text(f"#!{later}/bin/bash\n")
    assert f"its interpreter {later}/bin/bash is not" in runnable.problem(file, PATH, later)


@pytest.mark.parametrize("kind", ["no first line", "CRLF", "a PE program"])
def test_a_host_refuses_such_a_version_with_the_reason_and_keeps_what_runs(host, site, kind):
    site.publish(version="1")
    site.desire(("agent", "1"))
    run(host)
    content, words = FORMS[kind]
    lab_agents.publish(site.files, "agent", "2", {"control": (content, 0o755)})
    site.desire(("agent", "2"))
    [turn] = run(host).turns
    assert "control of 2 cannot run: " in turn.waits
    assert words in turn.waits
    agent = host.layout.agent("agent")
    assert agent.version_file.read_text() == "1\n"
    assert control_script.status(agent.install("1"), 5).text == "started"
    assert not agent.install("2").exists()
    last = host.memories.of("agent").last
    assert (last.to, last.step, last.result) == ("2", "install", "refused")


def test_a_host_refuses_a_version_whose_interpreter_it_lacks(host, site):
    site.publish(control="#!/usr/bin/env no-such-python\n")
    site.desire(("agent", "1"))
    [turn] = run(host).turns
    assert "its interpreter no-such-python is not on the PATH of this machine" in turn.waits


def test_an_interpreter_of_the_hosts_own_path_is_enough(host, site, tmp_path):
    shutil.copy("/bin/sh", tmp_path / "agents-own-sh")
    (host.layout.root / "environment").write_text(f"X=1\nPATH={tmp_path}:{PATH}\n")
    site.publish(control=HEALTHY.replace("#!/bin/sh", "#!/usr/bin/env agents-own-sh"))
    site.desire(("agent", "1"))
    os.environ["PATH"], before = f"{tmp_path}:{PATH}", os.environ["PATH"]
    try:
        assert run(host).matches
    finally:
        os.environ["PATH"] = before


def test_an_agent_that_is_there_already_is_reported_with_the_reason(tmp_path):
    said = control_script.status(install(tmp_path, "agent", "1", "#!/nonexistent/sh -e\n"), 5)
    assert said.text == "exec `./control status` fail: its interpreter /nonexistent/sh is not on this machine"


def test_what_macos_puts_beside_files_is_left_out(host, site):
    more = {
        "._control": b"\0\5\x16\7",
        "lib/x": b"x",
        "lib/._x": b"\0\5\x16\7",
        "._dir/y": b"kept",
    }
    lab_agents.publish(site.files, "agent", "1", members(**more))
    site.desire(("agent", "1"))
    assert run(host).matches
    install_1 = host.layout.agent("agent").install("1")
    assert sorted(p.name for p in install_1.iterdir() if p.name != "pid") == ["._dir", ".installed", "control", "lib"]
    assert sorted(p.name for p in (install_1 / "lib").iterdir()) == ["x"]
