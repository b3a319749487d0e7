from __future__ import annotations

import errno
import os
import threading

import pytest

from freqai_lstm_plugins.files import is_unwritable, replacing, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_the_block_ends_and_not_before(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with replacing(path) as stream:
        stream.write(b"new and longer")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new and longer"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("stop", [OSError(28, "No space left"), KeyboardInterrupt(), SystemExit(1)])
def test_a_block_that_does_not_end_well_leaves_the_old_file_alone(tmp_path, stop):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as stream:
            stream.write(b"half")
            raise stop

    with pytest.raises(type(stop)):
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_file_alone(tmp_path, monkeypatch, step):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync" if step == "fsync" else "pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_text(path, "new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_no_file_is_made_where_the_first_writing_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.bin"):
        _ = 1 / 0
    assert names(tmp_path) == []


def test_folders_are_made_on_the_way(tmp_path):
    write_text(tmp_path / "x" / "y" / "a.txt", "hello")
    assert (tmp_path / "x" / "y" / "a.txt").read_text() == "hello"


def test_text_is_utf_8_and_keeps_its_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "Größe\nπ")
    assert (tmp_path / "a.txt").read_bytes() == "Größe\nπ".encode()


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_file_keeps_its_mode_and_a_new_one_gets_the_usual_one(tmp_path, monkeypatch):
    before = os.umask(0o027)
    try:
        # The mask belongs to the whole process, so a writer must not touch it.
        monkeypatch.delattr("os.umask")
        write_text(tmp_path / "new.txt", "")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "new.txt").stat().st_mode & 0o777 == 0o640
    (tmp_path / "new.txt").chmod(0o604)
    write_text(tmp_path / "new.txt", "again")
    assert (tmp_path / "new.txt").stat().st_mode & 0o777 == 0o604


def test_several_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    texts = [letter * 10_000 for letter in "abcd"]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "is_full"),
    [(errno.ENOSPC, True), (errno.EROFS, True), (errno.EDQUOT, True), (errno.ENOENT, False)],
)
def test_a_full_disk_is_known_by_whatever_it_was_wrapped_in(number, is_full):
    def fail():
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise ValueError("the file cannot be written") from error

    def tidy_up():
        try:
            fail()
        finally:
            raise RuntimeError("and the rest cannot be removed")

    with pytest.raises(ValueError, match="cannot be written") as wrapped:
        fail()
    with pytest.raises(RuntimeError, match="cannot be removed") as later:
        tidy_up()
    assert is_unwritable(wrapped.value) is is_full
    assert is_unwritable(later.value) is is_full
    assert not is_unwritable(ValueError("no cause at all"))
