"""What a user gets wrong ends in one line that names the thing, exit status 1, and no partial file."""
import os
import random
import shutil
import socket

import pytest

from kernels import HALT, multiboot
from machine import TIMEOUT

pytestmark = pytest.mark.own


@pytest.fixture
def files(tmp_path, guest):
    """A folder with good and bad files; commands run in it."""
    (tmp_path / "kernel").write_bytes(multiboot(HALT))
    linux = guest.vmlinuz.read_bytes()
    (tmp_path / "truncated").write_bytes(linux[:20000])
    (tmp_path / "setup-only").write_bytes(linux[:600])
    (tmp_path / "elf-truncated").write_bytes(guest.vmlinux.read_bytes()[:100000])
    (tmp_path / "text").write_text("this is no kernel\n" * 1000)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "odd.img").write_bytes(bytes(1000))
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    (tmp_path / "rom").write_bytes(bytes(70000))
    return tmp_path


def expect_one_line(result, *named):
    """Exit status 1 and one line on stderr with these words in it."""
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert len(lines[0]) > 20
    for word in named:
        assert word.lower() in lines[0].lower(), lines[0]


BAD = [
    # (words after `run`, what the message names)
    (["--kernel", "missing"], ["missing"]),
    (["--kernel", "folder"], ["folder"]),
    (["--kernel", "text"], ["text"]),
    (["--kernel", "empty"], ["empty"]),
    (["--kernel", "truncated"], ["truncated"]),
    (["--kernel", "setup-only"], ["setup-only"]),
    (["--kernel", "elf-truncated"], ["elf-truncated"]),
    (["--kernel", "VMLINUZ", "--memory", "8M"], ["memory"]),
    (["--kernel", "VMLINUX", "--memory", "16M"], ["memory"]),
    (["--kernel", "VMLINUZ", "--memory", "64M", "--initrd", "VMLINUX"], ["vmlinux"]),
    (["--kernel", "VMLINUZ", "--initrd", "missing"], ["missing"]),
    (["--kernel", "VMLINUZ", "--initrd", "folder"], ["folder"]),
    (["--kernel", "kernel", "--memory", "0"], ["memory"]),
    (["--kernel", "kernel", "--memory", "lots"], ["lots"]),
    (["--kernel", "kernel", "--memory", "12Q"], ["12Q"]),
    (["--kernel", "kernel", "--memory", "-1"], ["-1"]),
    (["--kernel", "kernel", "--memory", "64K"], ["memory"]),
    (["--kernel", "kernel", "--memory", "99999999999G"], ["99999999999G"]),
    (["--kernel", "kernel", "--memory", "8000000G"], ["8000000G"]),
    (["--kernel", "kernel", "--cpus", "0"], ["cpus"]),
    (["--kernel", "kernel", "--cpus", "65"], ["cpus"]),
    (["--kernel", "kernel", "--cpus", "two"], ["two"]),
    (["--kernel", "kernel", "--cpu", "pentium9"], ["pentium9"]),
    (["--kernel", "kernel", "--cpu", "v2,+nonsense"], ["nonsense"]),
    (["--kernel", "kernel", "--engine", "warp"], ["warp"]),
    (["--kernel", "kernel", "--clock", "sundial"], ["sundial"]),
    (["--kernel", "kernel", "--rtc", "yesterday"], ["yesterday"]),
    (["--kernel", "kernel", "--rtc", "2024-02-30"], ["2024-02-30"]),
    (["--kernel", "kernel", "--nonsense"], ["nonsense"]),
    (["--kernel"], ["kernel"]),
    (["--firmware", "rom"], ["rom"]),
    (["--firmware", "empty"], ["empty"]),
    (["--firmware", "missing"], ["missing"]),
    (["--firmware", "folder"], ["folder"]),
    (["--kernel", "kernel", "--disk", "missing"], ["missing"]),
    (["--kernel", "kernel", "--disk", "odd.img,format=raw"], ["odd.img"]),
    (["--kernel", "kernel", "--disk", "folder,format=raw"], ["folder"]),
    (["--kernel", "kernel", "--disk", "disk.img,format=floppy"], ["floppy"]),
    (["--kernel", "kernel", "--disk", "disk.img,format=raw,if=scsi"], ["scsi"]),
    (["--kernel", "kernel", "--disk", "disk.img,colour=red"], ["colour"]),
    (["--kernel", "kernel", "--disk", "disk.img,readonly=maybe"], ["maybe"]),
    (["--kernel", "kernel", "--serial", "file:missing/serial"], ["missing/serial"]),
    (["--kernel", "kernel", "--serial", "unix:missing/serial"], ["missing/serial"]),
    (["--kernel", "kernel", "--serial", "pigeon"], ["pigeon"]),
    (["--kernel", "kernel", "--serial", "none", "--serial", "none", "--serial", "none", "--serial", "none", "--serial",
      "none"], ["serial"]),
    (["--kernel", "kernel", "--debugcon", "missing/log"], ["missing/log"]),
    (["--kernel", "kernel", "--debugcon", "log,port=0x12345"], ["0x12345"]),
    (["--kernel", "kernel", "--trace", "everything"], ["everything"]),
    (["--kernel", "kernel", "--trace", "io,file=missing/trace", "--debugcon", "log"], ["missing/trace"]),
    (["--kernel", "missing", "--trace", "io,file=trace", "--debugcon", "log", "--serial", "file:serial"], ["missing"]),
]


@pytest.mark.parametrize("words, named", BAD, ids=[" ".join(words) for words, _ in BAD])
def test_run_refuses(run, files, guest, words, named):
    before = sorted(os.listdir(files))
    words = [{"VMLINUZ": guest.vmlinuz, "VMLINUX": guest.vmlinux}.get(word, word) for word in words]
    expect_one_line(run("run", *words), *named)
    assert sorted(os.listdir(files)) == before


def test_unreadable_kernel(run, files):
    if os.geteuid() == 0:
        # Root reads everything; a socket cannot be opened by anyone.
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(files / "unreadable"))
    else:
        shutil.copy(files / "kernel", files / "unreadable")
        (files / "unreadable").chmod(0)
    expect_one_line(run("run", "--kernel", "unreadable"), "unreadable")


def test_long_serial_path(run, files):
    path = "x" * 200
    expect_one_line(run("run", "--kernel", "kernel", "--serial", f"unix:{path}"), path)


def test_disk_in_use(machine, run, files, name):
    """Two writers on one image would ruin it."""
    words = ["run", "--kernel", "kernel", "--disk", "disk.img,format=raw", "--serial", "none"]
    first = machine(*words, "--name", name, "--debugcon", "log")
    while run("info", name).returncode != 0:
        assert first.console.isalive()
    expect_one_line(run(*words), "disk.img")
    # Reading beside a reader is fine, and so is nothing else.
    assert run("stop", name).returncode == 0


def test_name_in_use(machine, run, files, name):
    machine("run", "--kernel", "kernel", "--serial", "none", "--name", name)
    while run("info", name).returncode != 0:
        pass
    before = sorted(os.listdir(files))
    expect_one_line(run("run", "--kernel", "kernel", "--serial", "file:made", "--trace", "io,file=made2", "--name", name), name)
    assert run("save", name, "saved").returncode == 0
    expect_one_line(run("restore", "saved", "--serial", "file:made"), name)
    assert sorted(os.listdir(files)) == sorted(before + ["saved"])
    assert run("restore", "saved", "--stop-after", "0", "--name", name + "2").returncode == 0


@pytest.mark.parametrize("words, named", [
    (["nonsense"], ["nonsense"]), (["info", "nobody"], ["nobody"]), (["stop", "nobody"], ["nobody"]),
    (["save", "nobody", "file"], ["nobody"]), (["restore", "missing"], ["missing"]), (["restore", "text"], ["text"]),
    (["restore", "folder"], ["folder"]), (["restore", "empty"], ["empty"]), (["console", "nobody"], ["nobody"]),
])
def test_commands_refuse(run, files, words, named):
    before = sorted(os.listdir(files))
    expect_one_line(run(*words), *named)
    assert sorted(os.listdir(files)) == before


def test_misspelt_words_are_corrected(run, files):
    expect_one_line(run("run", "--kernal", "kernel"), "kernal", "--kernel")
    expect_one_line(run("rum"), "rum", "run")


@pytest.fixture
def snapshot(machine, run, files, name):
    """A small saved machine."""
    vm = machine("run", "--kernel", "kernel", "--memory", "16M", "--serial", "none", "--name", name)
    while run("info", name).returncode != 0:
        assert vm.console.isalive()
    saved = run("save", name, "good")
    assert saved.returncode == 0, saved.stderr
    assert run("stop", name).returncode == 0
    return files / "good"


def test_damaged_snapshots(run, files, snapshot):
    """Truncated or changed anywhere: one message that names the file."""
    good = snapshot.read_bytes()
    words = ["restore", "bad", "--serial", "none", "--stop-after", "0"]
    (files / "bad").write_bytes(good)
    assert run(*words).returncode == 0
    places = random.Random(1)
    for size in [0, 1, 7, 8, 100, len(good) // 2, len(good) - 1] + [places.randrange(len(good)) for _ in range(15)]:
        (files / "bad").write_bytes(good[:size])
        expect_one_line(run(*words), "bad")
    for place in [0, 4, 8, 12, 16, len(good) - 1] + [places.randrange(len(good)) for _ in range(60)]:
        damaged = bytearray(good)
        damaged[place] ^= 1 << places.randrange(8)
        (files / "bad").write_bytes(damaged)
        expect_one_line(run(*words), "bad")


def test_save_to_a_place_that_is_none(machine, run, files, name):
    vm = machine("run", "--kernel", "kernel", "--memory", "16M", "--serial", "none", "--name", name)
    while run("info", name).returncode != 0:
        assert vm.console.isalive()
    expect_one_line(run("save", name, "missing/file"), "missing/file")
    expect_one_line(run("save", name, "folder"), "folder")
    assert sorted(os.listdir(files / "folder")) == []
    assert run("stop", name, timeout=TIMEOUT).returncode == 0
