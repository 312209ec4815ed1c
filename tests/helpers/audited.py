"""Runs the updater's command with every process, connection and change of the disk written down.

    python audited.py LOG run -c cfg.json

Each line of LOG is one audit event of the interpreter: its name and its arguments. Python raises these before it starts a
process, opens a file, renames, removes, or connects, whoever in the process does it.
"""

import os
import sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
}
PROCESSES = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "pty.spawn",
}


def main() -> None:
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in CHANGES or event in PROCESSES or event == "socket.connect":
            os.write(log, f"{event} {args!r}\n".encode())
        elif event == "open" and isinstance(args[2], int) and args[2] & WRITING:
            os.write(log, f"write {args!r}\n".encode())

    from updater.cli.main import main as updater

    sys.addaudithook(hook)
    updater(sys.argv[2:])


if __name__ == "__main__":
    main()
