"""A file that is written through the door appears whole, durably and with its mode, or not at all."""

import os
import stat

import pytest

from updater import durable_files
from updater.errors import TryLater


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("umask", [0, 0o077])
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_a_file_has_its_mode_from_the_first_byte_whatever_the_umask_is(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with durable_files.whole_file(tmp_path / "f", mode) as file:
            file.write(b"secret")
            assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == mode
            assert names(tmp_path) == [".f.new"]
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_after_an_error_in_the_block_the_old_content_is_there_and_nothing_else(tmp_path, error):
    (tmp_path / "f").write_text("old")
    with pytest.raises(error), durable_files.whole_file(tmp_path / "f", 0o644) as file:
        file.write(b"new")
        raise error
    assert (tmp_path / "f").read_text() == "old"
    assert names(tmp_path) == ["f"]


def test_what_is_there_is_replaced_only_where_that_is_meant(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(FileExistsError), durable_files.whole_file(tmp_path / "f", 0o644, replace=False) as file:
        file.write(b"new")
    assert (tmp_path / "f").read_text() == "old"
    with durable_files.whole_file(tmp_path / "g", 0o644, replace=False) as file:
        file.write(b"new")
    assert names(tmp_path) == ["f", "g"]


def test_two_writers_with_hidden_names_of_their_own_do_not_disturb_each_other(tmp_path):
    with durable_files.whole_file(tmp_path / "f", 0o644, ".one") as one:
        one.write(b"one")
        with durable_files.whole_file(tmp_path / "f", 0o644, ".two") as two:
            two.write(b"two")
        assert (tmp_path / "f").read_bytes() == b"two"
    assert (tmp_path / "f").read_bytes() == b"one"


def test_trouble_is_told_with_the_file_and_tried_later(tmp_path):
    with pytest.raises(TryLater, match=r"cannot write .*none/f: No such file or directory"):
        durable_files.write_atomic(tmp_path / "none" / "f", b"new")
