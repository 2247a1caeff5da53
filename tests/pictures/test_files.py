"""Outputs are whole or absent, folders are tried before work, inputs are recognised again."""

import os

import pytest
import torch
from PIL import Image

from unicond.pictures import (
    PictureError,
    check_fingerprint,
    check_output_folder,
    fingerprint,
    make_output_folder,
    whole_file,
    write_depth,
    write_png,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_tried_and_nothing_is_left(tmp_path):
    folder = check_output_folder(tmp_path / "a" / ".." / "b" / "c")
    assert names(tmp_path) == []
    assert make_output_folder(folder).is_dir()
    assert check_output_folder(folder) == make_output_folder(folder) == folder
    assert names(folder) == []


def test_an_unwritable_folder_is_found_before_work(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for path in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "out"):
        with pytest.raises(
            PictureError, match=r"cannot write to .*: .*notes.txt is a file; choose"
        ):
            check_output_folder(path)
        with pytest.raises(PictureError, match=r"notes.txt is a file; choose"):
            make_output_folder(path)
    assert names(tmp_path) == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    # nobody can write here, root neither
    with pytest.raises(
        PictureError, match=r"cannot write to the output folder /proc/x: .+; choose"
    ):
        check_output_folder("/proc/x")
    with pytest.raises(PictureError, match="cannot write to the output folder /proc: "):
        check_output_folder("/proc")


def interrupted(path, error):
    with whole_file(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_file_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.bin"
    for before in ([], ["a.bin"]):
        with pytest.raises(error):
            interrupted(path, error)
        assert names(tmp_path) == before
        with whole_file(path) as file:
            file.write(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_failing_encoder_leaves_nothing(tmp_path, monkeypatch):
    def fail(self, file, *args, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(PictureError, match=r"cannot write .*a.png: No space left on device"):
        write_png(torch.zeros(3, 8, 8), tmp_path / "a.png", {})
    with pytest.raises(PictureError, match="No space left on device"):
        write_depth(torch.zeros(8, 8), tmp_path / "a.png")
    assert names(tmp_path) == []


def test_files_that_cannot_be_written_say_why(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "folder.png", "/proc/x/a.png"):
        with pytest.raises(PictureError, match=r"cannot write .*\.png: "):
            write_png(torch.zeros(3, 8, 8), path, {})
    assert names(tmp_path) == ["folder.png"]


def test_new_files_have_ordinary_permissions(tmp_path):
    with whole_file(tmp_path / "a") as file:
        file.write(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_given_picture_is_recognised_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.png").write_bytes(b"depth")
    record = fingerprint("d.png")
    assert record["path"] == "d.png"
    assert len(record["sha256"]) == 64
    assert os.fspath(check_fingerprint(record)) == "d.png"
    (tmp_path / "d.png").write_bytes(b"other")
    with pytest.raises(PictureError, match=r"d.png has changed since this was made \(sha256 "):
        check_fingerprint(record)
    (tmp_path / "d.png").unlink()
    with pytest.raises(PictureError, match=r"d.png .* is not there \(looked from .*\); run the"):
        check_fingerprint(record)
    with pytest.raises(PictureError, match=r"cannot read d.png: No such file"):
        fingerprint("d.png")
    with pytest.raises(PictureError, match=r"needs path and sha256, not {'path': 'd.png'}"):
        check_fingerprint({"path": "d.png"})
