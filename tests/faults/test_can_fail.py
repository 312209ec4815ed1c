"""A suite that cannot fail proves nothing: each of these takes one line of care out of a copy of the updater, and the class
that is there for that line must notice."""

import re
import shutil

import pytest

from faults.test_sample import REPOSITORY, faults

MUTATIONS = {
    "a directory is not synced after an atomic write": (
        "power:upgrade",
        "files.py",
        "        temporary.replace(path)\n        sync_directory(path.parent)\n",
        "        temporary.replace(path)\n",
    ),
    "an atomic write is not synced": (
        "power:upgrade",
        "files.py",
        "            os.fsync(fd)\n        temporary",
        "        temporary",
    ),
    "the tree is not synced before its marker is written": (
        "power:upgrade",
        "perform.py",
        "unpack.unpack(fetched.path, staging, ",
        "unpack.unpack(fetched.path, staging, durable=False, limits=",
    ),
    ".version is written in place": (
        "kill:upgrade",
        "perform.py",
        'files.write_atomic(self.agent.version_file, f"{action.version}\\n".encode())',
        'self.agent.version_file.write_text(f"{action.version}\\n")',
    ),
    "the old version is stopped before the new one is there": (
        "kill:upgrade",
        "plan.py",
        "(*_prepare(seen, install), *_leave(seen, version, forced, bool(install)), start)",
        "(*_leave(seen, version, forced, bool(install)), *_prepare(seen, install), start)",
    ),
    "an install is moved into place before its marker says that it is whole": (
        "kill:upgrade",
        "observe.py",
        "        return msgspec.json.decode(data, type=Marker) if data else None\n",
        "        return msgspec.json.decode(data, type=Marker) if data else Marker()\n",
    ),
}
