"""Control scripts as the field writes them, and an agent that takes its time: for tests of what the kernel knows."""

import socket
import sys
from pathlib import Path

# Binds PORT (0: none); on TERM needs GRACE seconds, as one that empties a spool does; dies after LIFE seconds (0: never).
AGENT = """\
import signal, socket, sys, time
port, grace, life = int(sys.argv[1]), float(sys.argv[2]), float((*sys.argv, 0)[3])
if port:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        print(f"listen tcp 127.0.0.1:{port}: bind: address already in use", flush=True)
        sys.exit(1)
    s.listen(5)
def bye(*_):
    time.sleep(grace)
    sys.exit(0)
signal.signal(signal.SIGTERM, bye)
if life:
    time.sleep(life)
    sys.exit(3)
while True:
    signal.pause()
"""

# open-falcon's own agents: a pid file below the install, `stop` signals and returns.
SIGNALS_AND_RETURNS = f"""#!/bin/bash
cd "$(dirname "$0")" || exit 1
mkdir -p var
alive() {{ [ -s var/app.pid ] && grep -qs '^State:[[:space:]]*[RSDTtIWKP]' "/proc/$(cat var/app.pid)/status"; }}
case "$1" in
start)
  if alive; then echo "running already"; exit 1; fi
  nohup {sys.executable} ./agent.py PORT GRACE >>var/app.log 2>&1 &
  pid=$!
  for i in 1 2 3 4 5 6 7 8; do sleep 0.05; grep -qs '^State:[[:space:]]*[RSDTtIWKP]' "/proc/$pid/status" || {{
    cat var/app.log; echo "failed to start"; exit 1; }}; done
  echo $pid >var/app.pid ;;
stop) kill $(cat var/app.pid); rm -f var/app.pid; echo stoped ;;
status) if alive; then echo started; else echo stoped; fi ;;
esac
"""

# A pid file that is believed while any process has the number, dead or not.
KILL_0 = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
pid=$(cat pid 2>/dev/null)
running() { [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }
case "$1" in
start)  running && exit 0; sleep 9999 >/dev/null 2>&1 & echo $! >pid ;;
stop)   running || exit 0; kill "$pid"; n=0; while running && [ $n -lt 40 ]; do sleep 0.1; n=$((n+1)); done ;;
status) if running; then echo started; else echo stoped; fi ;;
esac
"""


def filled(control: str, port: int = 0, grace: float = 0) -> str:
    """The script with its agent's port and seconds of grace."""
    return control.replace("PORT", str(port)).replace("GRACE", str(grace))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def alive(pid: int) -> bool:
    """Whether this process lives; a dead one that is not yet buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
