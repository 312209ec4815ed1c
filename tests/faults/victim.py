"""An updater in a process of its own, met by a shim that only notes: `python -m faults.victim ROOT CONFIG NOTES`."""

import sys
from pathlib import Path

from faults.observers import Note
from faults.shim import Shim
from faults.world import run_updater

if __name__ == "__main__":
    root, config, notes = sys.argv[1:]
    Shim(root, Note(Path(notes))).put()
    sys.exit(run_updater(["once", "-c", config, "--root", root]))
