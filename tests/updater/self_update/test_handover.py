"""The updater upgrades itself through meta, and no bad version of it leaves the host without one."""

import contextlib
import json
import os
import signal
import subprocess
import sys

import pytest

from helpers import racing
from lab.fleet import Host, until

pytestmark = pytest.mark.long

NAME = "ops-updater"
CONTROL = '#!/bin/sh\n[ "$1" = status ] && echo started\nexit 0\n'

GOOD = """
import sys
sys.path.insert(0, {root!r})
from updater.cli.main import main
main()
"""
ELSEWHERE = """
import json
where = sys.argv.index("-c") + 1
settings = json.load(open(sys.argv[where])) | {{"server": "127.0.0.1:9", "timeouts": {{"heartbeat": 1}}}}
sys.argv[where] += ".elsewhere"
open(sys.argv[where], "w").write(json.dumps(settings))
"""
ONLY_RUN = 'if sys.argv[1] == "run":\n    '


def program(root, before=""):
    """A version's program; `before` is what this version does first."""
    return ("import sys\n" + before.format() + GOOD.format(root=str(root))).encode()


class Updater(Host):
    """A host whose updater runs from an install of its own."""

    def start(self):
        self._spawn(sys.executable, str(self.root / NAME / "1.0.0" / "updater.pyz"), *self.where("run"), cwd=self.root)
        return self

    def where(self, command):
        return command, "-c", str(self.config), "--root", str(self.root)

    def owner(self):
        """The process that works on this root now."""
        return int((self.root / ".updater" / "lock").read_text())


@pytest.fixture
def host(tmp_path, site, request):
    settings = {"interval": 0.3, "watch": 1, "timeouts": {"start": 3, "stop": 3, "status": 3, "heartbeat": 3}}
    with Updater(tmp_path / "h1", site.address, **settings) as made:
        install = made.root / NAME / "1.0.0"
        install.mkdir(parents=True)
        (install / "control").write_text(CONTROL)
        (install / "control").chmod(0o755)
        (install / "updater.pyz").write_bytes(program(request.config.rootpath))
        (install / ".installed").write_text('{"at": 1}')
        (made.root / NAME / ".version").write_text("1.0.0\n")
        yield made


@pytest.fixture
def publish(site, request):
    """Publish a version of the updater and desire it everywhere."""

    def published(version, before=""):
        site.publish(
            name=NAME, version=version, control=CONTROL, **{"updater.pyz": program(request.config.rootpath, before)}
        )
        site.desire((NAME, version))

    return published


def reported(site):
    agents = site.reports[-1]["realAgents"] if site.reports else []
    return next((agent["version"] for agent in agents if agent["name"] == NAME), "")


def command_line(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read()


def test_a_good_version_takes_over_in_the_same_process(host, site, publish):
    host.start()
    until("1.0.0 reports itself", lambda: reported(site) == "1.0.0")
    publish("2.0.0")
    until("2.0.0 reports itself", lambda: reported(site) == "2.0.0")
    assert host.current(NAME) == "2.0.0"
    assert host.running
    assert host.owner() == host.pid
    assert "2.0.0/updater.pyz" in command_line(host.pid)
    until("meta hears that it is done", lambda: [o for o in site.outcomes() if o["agent"] == NAME])
    publish("3.0.0")
    until("and so does the next one", lambda: reported(site) == "3.0.0")
    assert host.owner() == host.pid
    until("meta hears of both", lambda: len([o for o in site.outcomes() if o["agent"] == NAME]) == 2)
    told = [(o["from"], o["to"], o["step"], o["result"]) for o in site.outcomes() if o["agent"] == NAME]
    assert told == [("1.0.0", "2.0.0", "watch", "done"), ("2.0.0", "3.0.0", "watch", "done")]


@pytest.mark.parametrize(
    "where", [("--config={file}", "--root={root}"), ("-c{file}", "--root", "{root}"), ("-c", "agents.json")]
)
def test_however_the_options_are_written_the_new_version_is_tried_out_and_guarded_with_them(
    host, site, publish, tmp_path, where
):
    host.config = host.config.rename(host.root / "agents.json")
    words = [word.format(file=host.config, root=host.root) for word in where]
    command = [sys.executable, host.root / NAME / "1.0.0" / "updater.pyz", "run", *words]
    with subprocess.Popen(command, cwd=host.root, stderr=subprocess.DEVNULL) as daemon:
        try:
            until("1.0.0 reports itself", lambda: reported(site) == "1.0.0")
            publish("2.0.0")
            until("2.0.0 reports itself", lambda: reported(site) == "2.0.0")
            publish("3.0.0", BAD_AS_A_DAEMON["exits"])
            assert daemon.wait(60) == 7
            until("2.0.0 is back", lambda: host.current(NAME) == "2.0.0")
            count = len(site.reports)
            until("and goes on", lambda: len(site.reports) > count + 2)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(host.owner(), signal.SIGTERM)
            daemon.wait(30)


def test_a_parked_updater_is_woken_to_upgrade_itself_and_its_successor_parks_for_itself(host, site, publish):
    site.notify = 270
    host.start()
    until("1.0.0 reports itself", lambda: reported(site) == "1.0.0")
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"interval": 3600}))
    os.kill(host.pid, signal.SIGHUP)
    until("it is parked", lambda: site.parked)
    publish("2.0.0")
    until("2.0.0 reports itself", lambda: reported(site) == "2.0.0")
    assert site.parked == 0, "no connection of the former version is left"
    status = host.run("status").stderr
    assert "reachable by meta at once: no: the updater has just begun; meta is asked from 2" in status


def test_what_the_former_version_told_of_wakes_is_not_told_of_its_successor(host, site, publish, tmp_path):
    site.notify = 270
    host.start()
    until("1.0.0 reports itself", lambda: reported(site) == "1.0.0")
    host.config.write_text(json.dumps(json.loads(host.config.read_text()) | {"interval": 3600}))
    os.kill(host.pid, signal.SIGHUP)
    until("it is parked", lambda: site.parked)
    publish("2.0.0", ONLY_RUN + f"while not __import__('os').path.exists({str(tmp_path / 'go')!r}): pass\n")
    until("2.0.0 begins", lambda: "2.0.0/updater.pyz" in command_line(host.pid))
    site.notify = 0
    (tmp_path / "go").touch()
    until("it reports itself", lambda: reported(site) == "2.0.0")
    assert "reachable by meta at once: no: meta does not offer it\n" in host.run("status").stderr


def test_agents_of_a_version_that_took_over_get_the_locale_that_the_first_updater_was_given(host, site, publish):
    host.environment = {"LC_ALL": "", "LC_CTYPE": "C"}
    host.start()
    until("1.0.0 reports itself", lambda: reported(site) == "1.0.0")
    publish("2.0.0")
    until("2.0.0 reports itself", lambda: reported(site) == "2.0.0")
    site.publish(control=CONTROL.replace("exit", "env >../env.new; mv ../env.new ../env\nexit"))
    site.desire((NAME, "2.0.0"), ("agent", "1"))
    environment = host.root / "agent" / "env"
    until("an agent is asked", environment.exists)
    assert "LC_CTYPE=C" in environment.read_text().splitlines()


BAD_FROM_THE_START = {
    "exits": "sys.exit(7)\n",
    "hangs": "import time; time.sleep(1000)\n",
    "cannot import": "import a_module_that_is_nowhere\n",
    "cannot reach meta": ELSEWHERE,
    "is no program at all": "this is no Python\n",
}


@pytest.mark.parametrize("before", BAD_FROM_THE_START.values(), ids=BAD_FROM_THE_START.keys())
def test_a_version_that_fails_its_try_out_changes_nothing(host, site, publish, before):
    host.start()
    until("1.0.0 reports itself", lambda: reported(site) == "1.0.0")
    publish("2.0.0", before)
    outcome = until("meta hears of it", lambda: [o for o in site.outcomes() if o["agent"] == NAME])[0]
    assert (outcome["from"], outcome["to"], outcome["step"], outcome["result"]) == (
        "1.0.0",
        "2.0.0",
        "hand over",
        "failed",
    )
    assert host.current(NAME) == "1.0.0"
    count = len(site.reports)
    until("the old one goes on", lambda: len(site.reports) > count + 2)
    assert (host.running, host.owner()) == (True, host.pid)
    assert site.gets.count(f"/{NAME}-2.0.0.tar.gz") == 1, "and does not try that version again"
    publish("3.0.0")
    until("a good version is taken", lambda: reported(site) == "3.0.0")


BAD_AS_A_DAEMON = {
    "exits": ONLY_RUN + "sys.exit(7)\n",
    "hangs": ONLY_RUN + "import time; time.sleep(1000)\n",
    "cannot reach meta": 'if sys.argv[1] == "run":\n'
    + "".join(f"    {line}\n" for line in ELSEWHERE.strip().splitlines()),
}


@pytest.mark.parametrize("before", BAD_AS_A_DAEMON.values(), ids=BAD_AS_A_DAEMON.keys())
def test_a_version_that_fails_after_the_hand_over_is_taken_back_by_the_old_one(host, site, publish, before):
    host.start()
    until("1.0.0 reports itself", lambda: reported(site) == "1.0.0")
    publish("2.0.0", before)
    until("it was handed over to", lambda: host.current(NAME) == "2.0.0")
    outcome = until(
        "the old one reports what happened",
        lambda: [o for o in site.outcomes() if o["result"] == "rolled back"],
        within=60,
    )[0]
    assert (outcome["agent"], outcome["from"], outcome["to"], outcome["step"]) == (NAME, "1.0.0", "2.0.0", "hand over")
    assert host.current(NAME) == "1.0.0"
    assert reported(site) == "1.0.0"
    assert "1.0.0/updater.pyz" in command_line(host.owner())
    count = len(site.reports)
    until("and goes on", lambda: len(site.reports) > count + 2)


def test_under_systemd_the_guard_leaves_the_start_to_it(host, site, publish):
    """The unit starts what `.version` names: the guard sets that right and goes."""
    environment = os.environ | {"INVOCATION_ID": "0" * 32}
    command = [sys.executable, host.root / NAME / "1.0.0" / "updater.pyz", *host.where("run")]
    with subprocess.Popen(command, env=environment, cwd=host.root, stderr=subprocess.DEVNULL) as daemon:
        until("1.0.0 reports itself", lambda: reported(site) == "1.0.0")
        publish("2.0.0", BAD_AS_A_DAEMON["exits"])
        assert daemon.wait(60) == 7, "the unit sees its process fail, and starts it again"
        until("what it will start is the old version", lambda: host.current(NAME) == "1.0.0")
    memory = host.root / ".updater" / "agents" / f"{NAME}.json"
    rejected = until("it is rejected", lambda: json.loads(memory.read_text())["rejected"])
    assert rejected["order"]["version"] == "2.0.0"


def test_an_order_to_stop_the_updater_is_not_followed(host, site):
    site.desire(site.entry(name=NAME, version="1.0.0", cmd="stop"))
    done = subprocess.run(
        [sys.executable, host.root / NAME / "1.0.0" / "updater.pyz", *host.where("once")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=host.root,
    )
    assert done.returncode == 1
    assert "does not stop itself" in done.stdout


def test_an_updater_that_runs_from_elsewhere_does_not_replace_itself(host, site, publish):
    publish("2.0.0")
    done = host.run("once")
    assert done.returncode == 1
    assert "does not run from ops-updater/<version>" in done.stdout
    assert host.current(NAME) == "1.0.0"


def test_a_rollback_by_hand_hands_back(host, site, publish):
    host.start()
    publish("2.0.0")
    until("2.0.0 reports itself", lambda: reported(site) == "2.0.0")
    done = host.run("rollback", NAME)
    assert done.returncode == 0, done.stderr
    until("1.0.0 is back", lambda: reported(site) == "1.0.0")
    assert host.owner() == host.pid


def test_a_new_version_that_ends_by_itself_just_before_it_is_killed_leaves_the_guard_in_charge(host):
    """Between the guard's look at the process and its kill, before which it reads the process's start time again."""
    (host.root / NAME / ".version").write_text("2.0.0\n")
    given = f"""
import subprocess
from pathlib import Path
from updater.host import config
from updater.self_update import handover
from updater.host.context import Host
from updater.net.http import Http
from updater.model.layout import Layout
host = Host(Layout(Path({str(host.root)!r})), config.load(Path({str(host.config)!r})), Http())
new = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", handover.PROGRAM])

def ends_by_itself(event, args):
    if event == "open" and args[0] == f"/proc/{{new.pid}}/stat" and new.poll() is None:
        new.kill()
        new.wait()

sys.addaudithook(ends_by_itself)
"""
    program = "print(handover.guard(host, new.pid, '2.0.0', '1.0.0', 0)); assert new.returncode == -9"
    done = racing.run("open", "pass", given, program)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    assert host.current(NAME) == "1.0.0"


READY = """
from pathlib import Path
from updater.host import config
from updater.self_update import handover
from updater.host.context import Host
from updater.net.http import Http
from updater.model.layout import Layout
root, file = {root!r}, {config!r}
options = "-c", file, "--root", root
host = Host(Layout(Path(root)), config.load(Path(file)), Http(), own_version="1.0.0", options=options, successor="2.0.0")
host.memories.change(handover.OWN_NAME, lambda memory: memory.switching("1.0.0", "2.0.0"))
sys.argv = [f"{{root}}/{name}/1.0.0/updater.pyz", "run", "-c", file, "--root", root]
"""


def about_to_hand_over(host):
    (host.root / NAME / ".version").write_text("2.0.0\n")
    return READY.format(root=str(host.root), config=str(host.config), name=NAME)


@pytest.mark.parametrize(
    ("number", "text"),
    [(11, "Resource temporarily unavailable"), (12, "Cannot allocate memory"), (28, "No space left")],
)
@pytest.mark.parametrize(
    ("event", "why"), [("subprocess.Popen", "its guard could not be started"), ("os.exec", "it could not be started")]
)
def test_trouble_of_the_host_at_a_hand_over_is_no_verdict_and_the_old_version_goes_on(
    host, site, event, why, number, text
):
    """As when no more processes may be started, or there is no memory, just then."""
    site.desire()
    refusal = f"raise OSError({number}, {text!r})"
    with racing.started(event, refusal, about_to_hand_over(host), "handover.become(host)") as process:
        try:
            until("1.0.0 reports itself", lambda: reported(site) == "1.0.0", within=30)
            if event == "subprocess.Popen":
                assert host.owner() == process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(host.owner(), signal.SIGTERM)
            process.terminate()
            process.wait(30)
    assert host.current(NAME) == "1.0.0"
    [outcome] = site.outcomes()
    assert (outcome["from"], outcome["to"], outcome["result"]) == ("1.0.0", "2.0.0", "failed")
    assert outcome["reason"] == f"{why}: {text}"
    memory = json.loads((host.root / ".updater" / "agents" / f"{NAME}.json").read_text())
    assert (memory["current"], memory["trial"], memory["rejected"]) == ("1.0.0", None, None)


@pytest.mark.parametrize("answers", [True, False])
def test_no_heartbeat_while_meta_answers_nobody_is_no_verdict(host, site, answers):
    given = about_to_hand_over(host) + (
        "import subprocess\n"
        "new = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)', handover.PROGRAM])\n"
        + ("" if answers else "host.reconfigure(config.load(Path(file + '.elsewhere')))\n")
    )
    settings = json.loads(host.config.read_text()) | {"server": "127.0.0.1:9"}
    host.config.with_name(host.config.name + ".elsewhere").write_text(json.dumps(settings))
    done = racing.run("open", "pass", given, "handover.guard(host, new.pid, '2.0.0', '1.0.0', 0)")
    assert done.returncode == 0, done.stderr
    assert host.current(NAME) == "1.0.0"
    memory = json.loads((host.root / ".updater" / "agents" / f"{NAME}.json").read_text())
    assert (memory["rejected"] is not None) == answers
    assert memory["outcomes"][-1]["result"] == ("rolled back" if answers else "failed")
