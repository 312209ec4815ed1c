"""A suite that cannot fail proves nothing: each of these takes one piece of care out of a copy of the updater, and the class
that is there for it must notice."""

import shutil

import pytest

from faults.test_sample import REPOSITORY, faults

MUTATIONS = {
    "an atomic write's name is not synced": (
        ("--class", "power", "--scenario", "rollback", "--sample", "6"),
        "durable_files.py",
        "            temporary.unlink()\n        sync_directory(path.parent)\n",
        "            temporary.unlink()\n",
        "'rejected': None",
    ),
    "an atomic write's data is not synced": (
        ("--class", "power", "--scenario", "upgrade", "--sample", "20"),
        "durable_files.py",
        "            os.fsync(fd)\n        if replace",
        "        if replace",
        ".version holds b",
    ),
    "the tree is not synced before its marker says that it is whole": (
        ("--class", "power", "--scenario", "upgrade", "--sample", "20"),
        "artifact/installing.py",
        "extract.unpack(fetched.file, staging, limits)",
        "extract.unpack(fetched.file, staging, limits, durable=False)",
        "has the marker and is not complete",
    ),
    ".version is written in place": (
        ("--class", "kill", "--scenario", "upgrade", "--sample", "3"),
        "reconcile/executor.py",
        'durable_files.write_atomic(self.agent.version_file, f"{action.version}\\n".encode())',
        'self.agent.version_file.write_text(f"{action.version}\\n")',
        ".version holds b'",
    ),
    "the old version is stopped before the new one is there": (
        ("--class", "errno", "--scenario", "upgrade", "--sample", "40"),
        "reconcile/plan.py",
        "(*_prepare(observed, install), *_leave(observed, version, forced, bool(install)), start)",
        "(*(leave := _leave(observed, version, forced, bool(install)))[:1], *_prepare(observed, install), *leave[1:], start)",
        "ran before and does not run now",
    ),
    "a memory that cannot be read is taken for none": (
        ("--only", "errno:watch:EIO:read:.updater/agents/agent.json:1"),
        "host/memories.py",
        "    except (ValueError, RecursionError):\n        return Memory()",
        "    except Exception:\n        return Memory()",
        "FAILED",
    ),
}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_the_suite_notices_when(tmp_path, mutation):
    options, file, care, carelessness, words = mutation
    copy = tmp_path / "updater"
    shutil.copytree(REPOSITORY / "updater", copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / file).read_text()
    assert care in text, f"{file} has changed: choose another mutation"
    (copy / file).write_text(text.replace(care, carelessness))
    done = faults(*options, directory=tmp_path)
    assert done.returncode == 1
    assert words in done.stdout, done.stdout + done.stderr
