"""Ctrl-C while Python cannot raise KeyboardInterrupt, or forgets it."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import textwrap
import time
from pathlib import Path

import pytest

from updater.service import interrupt

LATE = 60  # seconds that each program goes on where the interrupt is lost

IN_A_FINALISER = """
class Slow:
    def __del__(self):
        say("now")
        time.sleep(0.3)
Slow()
time.sleep(LATE)
"""
IN_A_CALLBACK = """
class Gone: pass
def called(_):
    say("now")
    time.sleep(0.3)
gone = Gone()
reference = weakref.ref(gone, called)
del gone
time.sleep(LATE)
"""
IN_A_RETRY = """
for number in range(LATE * 10):
    try:
        number == 0 and say("now")
        time.sleep(0.1)
    except BaseException:
        pass
"""
IN_C = """
say("now")
hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
"""
BEGIN = f"""
import ctypes, hashlib, signal, sys, time, weakref
from updater.service import interrupt
LATE = {LATE}
signal.signal(signal.SIGINT, signal.default_int_handler)  # which who started the tests may have ignored
def say(word):
    print(word, flush=True)
"""


def run(program, block="interrupt.always_ends()", stdin=None):
    body = "".join(f"    {line}\n" for line in program.strip().splitlines())
    command = [sys.executable, "-c", f"{BEGIN}\nimport contextlib\nwith {block}:\n{body}"]
    return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


every_program = pytest.mark.parametrize(
    "program",
    [IN_A_FINALISER, IN_A_CALLBACK, IN_A_RETRY, IN_C],
    ids=["in a finaliser", "in a callback", "in a retry", "in C"],
)


@every_program
def test_an_interrupt_that_python_would_lose_ends_the_command(program):
    with run(program) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(LATE / 2) in (interrupt.EXIT_CODE, -signal.SIGINT)


@every_program
def test_these_programs_do_lose_it_where_nothing_is_done_about_it(program):
    with run(program, "contextlib.nullcontext()") as process:
        try:
            assert process.stdout.readline() == "now\n"
            time.sleep(0.1)  # until C has begun
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2 * interrupt.GRACE)
        finally:
            process.kill()


def test_an_interrupt_that_python_does_not_lose_is_raised_as_ever():
    program = "try:\n    say('now')\n    time.sleep(LATE)\nexcept KeyboardInterrupt:\n    sys.exit('interrupted')"
    with run(program) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGINT)
        assert (process.communicate(timeout=LATE / 2)[1], process.returncode) == ("interrupted\n", 1)


def test_a_second_interrupt_is_not_waited_for():
    program = "interrupt.GRACE = LATE\n" + IN_A_RETRY
    with run(program) as process:
        assert process.stdout.readline() == "now\n"
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert process.returncode == 130


def test_a_handler_of_the_commands_own_decides_alone():
    program = """
import signal
interrupt.GRACE = 0.1
signal.signal(signal.SIGINT, lambda *_: say("mine"))
say("now")
time.sleep(0.5)
say("done")
"""
    with run(program) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=LATE / 2) == ("mine\ndone\n", "")
        assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_ends_in_good_order_when_it_is_asked_ends_at_once_when_it_is_asked_again(number):
    program = f"with interrupt.asks_first(lambda: say('asked')):\n{textwrap.indent(IN_A_RETRY, '    ')}"
    with run(program) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        assert process.wait(LATE / 2) == 128 + number


def test_nothing_is_left_behind_where_nobody_interrupts():
    with run("interrupt.GRACE = LATE\nsay('done')") as process:
        assert process.communicate(timeout=LATE / 2) == ("done\n", "")
        assert process.returncode == 0


WITH_CLICK = """
import click
@click.command()
def command():
    {}
command()
"""


# CPython makes ImportError of what is raised while a module is loaded through a capsule, as `import ssl` loads _socket.
IN_A_CAPSULE = "ctypes.pythonapi.PyCapsule_Import(b'slow.api', 0)"


@pytest.mark.parametrize(
    "does", ["say('now'); time.sleep(LATE)", "say('now'); click.confirm('?', abort=True)", IN_A_CAPSULE]
)
def test_an_interrupt_of_a_command_is_no_failure_of_it(does, tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text(f"import time\nprint('now', flush=True)\ntime.sleep({LATE})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with run(
        WITH_CLICK.format(does), "interrupt.has_a_code(), interrupt.always_ends()", stdin=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == "now\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(LATE / 2) == interrupt.EXIT_CODE
        assert process.stderr.read().strip() in ("", "Aborted!")


def test_a_success_after_an_interrupt_stays_one_and_every_failure_has_the_code_of_interrupts():
    for end, code in (("0", 0), ("None", 0), ("7", interrupt.EXIT_CODE)):
        program = f"try:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    sys.exit({end})"
        with run(program, "interrupt.has_a_code()") as process:
            assert process.wait(LATE / 2) == code


def test_a_question_that_nobody_answers_is_a_failure():
    program = WITH_CLICK.format("click.confirm('?', abort=True)")
    with run(program, "interrupt.has_a_code()", stdin=subprocess.DEVNULL) as process:
        assert process.wait(LATE / 2) == 1


def test_who_ignores_interrupts_goes_on_ignoring_them():
    program = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
with interrupt.has_a_code():
    signal.raise_signal(signal.SIGINT)
say("goes on")
"""
    with run(program, "contextlib.nullcontext()") as process:
        assert process.communicate(timeout=LATE / 2)[0] == "goes on\n"


@pytest.fixture
def silent():
    """Something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.mark.parametrize("name", ["meta", "updater"])
@pytest.mark.parametrize("moment", [0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2, None])
def test_ctrl_c_is_no_failure_whenever_it_comes(name, moment, silent, tmp_path):
    address = "{}:{}".format(*silent.getsockname())
    (tmp_path / "cfg.json").write_text(json.dumps({"server": address, "interval": 60, "hostname": "web-1"}))
    more = ["status", "falcon", "--watch"] if name == "meta" else ["plan", "-c", str(tmp_path / "cfg.json")]
    with subprocess.Popen(
        [Path(sys.executable).with_name(name), *more],
        env=os.environ | {"META_URL": f"http://{address}", "META_TOKEN": "x", "NO_PROXY": "127.0.0.1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which who started the tests may ignore
    ) as process:
        if moment is None:  # when it has asked
            assert select.select([silent], [], [], LATE)[0]
        else:
            time.sleep(moment)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=LATE / 2)[1]
    if "init_import_site" not in said:  # else it was Python's own start that it ended: no line of ours was reached
        assert process.returncode in (130, -signal.SIGINT)
        assert "Traceback" not in said or process.returncode == -signal.SIGINT


@pytest.mark.parametrize("command", ["meta", "updater"])
def test_an_interrupt_while_python_itself_starts_ends_the_command_as_any_program(tmp_path, command):
    """Python takes what is raised there for a failure of its start, or forgets it."""
    program = Path(sys.prefix, "bin", command)
    if subprocess.run(["env", "-S", "--block-signal=INT true"], check=False, capture_output=True).returncode:
        pytest.skip("this env blocks no signals")
    begun = "signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "sitecustomize.py").write_text(f"import os, signal; {begun}\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [program, "--version"], env=environment, capture_output=True, text=True, timeout=LATE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_nothing_of_ours_is_loaded_before_the_first_line_of_a_command():
    packages = Path(sysconfig.get_path("purelib"))
    assert [path.name for path in packages.glob("__editable__*finder*")] == []
