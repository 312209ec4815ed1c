"""What a process tells in a file counts while it lives."""

import subprocess
import sys

from updater.service import told

TELLS = "import sys; from pathlib import Path; from updater.service import told; told.tell(Path(sys.argv[1]), 'all is well')"


def test_what_a_process_tells_counts_until_it_ends(tmp_path):
    file = tmp_path / "file"
    assert told.told(file) == ""
    told.tell(file, "yes, by waits of 48 s")
    assert told.told(file) == "yes, by waits of 48 s"
    subprocess.run([sys.executable, "-c", TELLS, file], check=True, timeout=30)
    assert file.read_text().endswith(" all is well\n")
    assert told.told(file) == ""


def test_a_damaged_file_tells_nothing(tmp_path):
    file = tmp_path / "file"
    for damaged in (b"", b"\xff\xfe", b"yes", b"1e3.7 yes", b"-1.0 yes", b"x" * 100_000):
        file.write_bytes(damaged)
        assert told.told(file) == ""
