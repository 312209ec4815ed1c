"""An upgrade, a crash in the watch and the way back, with six control scripts in the manner of public ones: all end right.

The texts are ours; the manner of each is said at it.
"""

import os
import shutil
import sys

import pytest
from msgspec.structs import replace

from helpers.field import AGENT, free_port
from lab.fleet import until
from updater.host import control_script
from updater.kernel import processes
from updater.kernel.processes import Table
from updater.model.observed import State
from updater.reconcile import cycle

RUN = f"{sys.executable} $PWD/agent.py PORT GRACE LIFE"

# open-falcon's agents: var/app.pid, `ps -p` counted without its head, `stop` signals and returns.
OPEN_FALCON = f"""#!/bin/bash
WORKSPACE=$(cd $(dirname $0)/; pwd)
cd $WORKSPACE
mkdir -p var
pidfile=var/app.pid
check_pid() {{
    if [ -f $pidfile ]; then
        pid=`cat $pidfile`
        if [ -n $pid ]; then return `ps -p $pid -o stat= | grep -vc Z`; fi
    fi
    return 0
}}
case "$1" in
start)
    check_pid; if [ $? -gt 0 ]; then echo -n "app now is running already, pid="; cat $pidfile; exit 1; fi
    nohup {RUN} &> var/app.log &
    echo $! > $pidfile
    echo "app started..., pid=$!" ;;
stop) pid=`cat $pidfile`; kill $pid; echo "app stoped..." ;;
status) check_pid; if [ $? -gt 0 ]; then echo started; else echo stoped; fi ;;
esac
"""

# init.d scripts with the `daemon` and `killproc` of Red Hat's functions: the log's line [  OK  ], TERM, some seconds, KILL.
RED_HAT = f"""#!/bin/bash
cd "$(dirname "$0")" || exit 1
PIDFILE=./agent.pid
up() {{ read -r pid 2>/dev/null <$PIDFILE && [ -d "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status"; }}
killproc() {{
    kill -TERM "$1" 2>/dev/null
    for i in 1 2 3 4 5 6; do up || return 0; sleep 0.3; done
    kill -KILL "$1" 2>/dev/null
}}
case "$1" in
start)
    echo -n "Starting agent: "
    up || {{ {RUN} </dev/null >/dev/null 2>&1 & echo $! >$PIDFILE; }}
    echo -e "\\033[60G[\\033[0;32m  OK  \\033[0;39m]" ;;
stop) echo -n "Shutting down agent: "; up && killproc "$pid"; rm -f $PIDFILE; echo "[  OK  ]" ;;
status) if up; then echo "agent (pid $pid) is running..."; echo started; else echo "agent is stopped"; echo stoped; fi ;;
esac
"""

# Debian's start-stop-daemon with --background --make-pidfile: it leaves the session and the directory.
DEBIAN = f"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
PIDFILE=$PWD/run.pid
DO="start-stop-daemon --quiet --pidfile $PIDFILE"
case "$1" in
start)
    start-stop-daemon --status --pidfile $PIDFILE && exit 0
    $DO --start --background --make-pidfile --startas {sys.executable} -- $PWD/agent.py PORT GRACE LIFE ;;
stop) $DO --stop --oknodo --retry=TERM/3/KILL/2 --remove-pidfile ;;
status) if start-stop-daemon --status --pidfile $PIDFILE; then echo started; else echo stoped; fi ;;
esac
"""

# glu's agentctl.sh and Tomcat's catalina.sh: `kill -0` on a pid file, a stop that waits and then only warns.
KILL_0_AND_WAIT = f"""#!/bin/bash
BASEDIR=$(cd "$(dirname "$0")" && pwd); cd "$BASEDIR" || exit 1
PID_FILE=$BASEDIR/logs/agent.pid; mkdir -p logs
get_pid() {{ PID=; [ -s "$PID_FILE" ] && PID=$(cat "$PID_FILE") && kill -0 "$PID" 2>/dev/null; }}
case $1 in
start)
    if get_pid; then echo "Agent already running with PID $PID"; exit 0; fi
    {RUN} >logs/out 2>&1 &
    echo $! >"$PID_FILE"; echo "Started agent PID $!" ;;
stop)
    get_pid || {{ echo "Agent is not running"; exit 0; }}
    kill "$PID"
    for i in 1 2 3 4 5; do get_pid || break; sleep 0.1; done
    get_pid && echo "Agent did not stop in time, PID file was not removed" >&2
    rm -f "$PID_FILE" ;;
status) if get_pid; then echo started; else echo stoped; fi ;;
esac
"""

# Supervising shell loops, as many watchdog scripts: the loop starts again what dies, and gives up in the end.
LOOP = f"""#!/bin/sh
cd "$(dirname "$0")" || exit 1
up() {{ [ -s loop.pid ] && [ "/proc/$(cat loop.pid)/cwd" -ef . ]; }}
case "$1" in
start)
    up && exit 0
    ( trap 'kill $child; exit' TERM
      for i in 1 2 3; do {RUN} & child=$!; wait $child; sleep 0.05; done ) >/dev/null 2>&1 &
    echo $! >loop.pid ;;
stop) up && kill "$(cat loop.pid)"; while up; do sleep 0.05; done ;;
status) if up; then echo started; else echo stoped; fi ;;
esac
"""

# Forks of open-falcon's agent and many deploy scripts: no pid file, who runs is found by `pgrep`.
PGREP = f"""#!/bin/bash
cd "$(dirname "$0")" || exit 1
app="$PWD/agent.py"
check() {{ pgrep -f "$app" >/dev/null; }}
case "$1" in
start) check && {{ echo "now is running already"; exit 0; }}
    setsid {RUN} >/dev/null 2>&1 </dev/null &
    sleep 0.2 ;;
stop) pkill -f "$app"; echo stoped ;;
status) if check; then echo started; else echo stoped; fi ;;
esac
"""
MANNERS = {
    "open-falcon": OPEN_FALCON,
    "Red Hat's functions": RED_HAT,
    "start-stop-daemon": DEBIAN,
    "kill -0 and wait": KILL_0_AND_WAIT,
    "a loop": LOOP,
    "pgrep": PGREP,
}
NEEDS = {"start-stop-daemon": "start-stop-daemon", "pgrep": "pgrep"}


@pytest.mark.long
@pytest.mark.parametrize("manner", MANNERS)
def test_an_upgrade_a_crash_in_the_watch_and_the_way_back_end_right(host, site, manner, request):
    if manner in NEEDS and "CI" not in os.environ and not shutil.which(NEEDS[manner]):
        pytest.skip(f"there is no {NEEDS[manner]}")
    limits = replace(host.config.timeouts, status=5, start=8, stop=8)
    host.reconfigure(replace(host.config, timeouts=limits, watch=120))
    port = free_port()
    for version, grace, life in (("1", 0.7, 0), ("2", 0.7, 0), ("3", 0, 0.4)):
        text = MANNERS[manner].replace("PORT", str(port)).replace("GRACE", str(grace)).replace("LIFE", str(life))
        site.publish(version=version, control=text, **{"agent.py": AGENT.encode()})

    def run(version):
        site.desire(("agent", version))
        return cycle.run(host)

    def serving(version):
        table = Table()
        held = table.holders([port])
        return bool(held) and f"/agent/{version}/agent.py" in " ".join(processes.command(held[port].pid))

    def agents():
        where = f"{host.layout.agent('agent').path}/"
        return [one for one in Table().by_pid.values() if where in " ".join(processes.command(one.pid)[1:2])]

    request.addfinalizer(lambda: processes.end(one.identity for one in agents()))
    assert run("1").matches
    until("1 serves", serving, "1")
    assert run("2").matches
    until("2 serves", serving, "2")
    assert len(agents()) == 1

    def given_up():
        run("3")
        return host.memories.of("agent").rejected

    rejected = until("3 is given up", given_up, within=60)  # each start may take its 8 s
    assert rejected.order.version == "3"
    assert host.layout.agent("agent").version_file.read_text().strip() == "2"
    until("2 serves again", serving, "2")
    assert control_script.status(host.layout.agent("agent").install("2"), 5).state is State.STARTED
    assert len(agents()) == 1
