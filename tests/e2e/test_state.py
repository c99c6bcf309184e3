"""The machine as data: saved, restored in a fresh process, hashed, looked at."""
import json
import re

import pytest

from machine import BOOT_TIMEOUT, TIMEOUT

pytestmark = pytest.mark.own


def save_and_stop(run, vm, name, file):
    """Save a running VM to a file and end it."""
    saved = run("save", name, file, timeout=2 * TIMEOUT)
    assert saved.returncode == 0, saved.stderr
    stopped = run("stop", name)
    assert stopped.returncode == 0, stopped.stderr
    assert vm.wait_exit() == 0


@pytest.mark.parametrize("cpus", [1, 4])
def test_save_and_restore(linux, machine, run, name, tmp_path, cpus):
    """What was in memory, in the shell and under way goes on in the new process."""
    vm = linux("--name", name, "--cpus", cpus)
    vm.wait_shell()
    vm.shell("mark=here; echo there >/tmp/mark")
    vm.shell("(while :; do md5sum /bin/busybox; done) >/tmp/sums & true")
    before = float(vm.shell("cut -d' ' -f1 /proc/uptime"))
    save_and_stop(run, vm, name, tmp_path / "saved")

    vm = machine("restore", tmp_path / "saved")
    assert vm.shell("echo $mark; cat /tmp/mark") == "here\nthere\n"
    assert float(vm.shell("cut -d' ' -f1 /proc/uptime")) >= before
    vm.shell("sleep 2; kill %1; sleep 1")
    assert vm.shell("sed '$d' /tmp/sums | sort -u | wc -l") == "1\n"
    assert vm.shell("nproc") == f"{cpus}\n"
    vm.check_kernel_log()
    assert vm.power_off() == 0


def test_save_and_restore_32bit_guest(linux, machine, run, name, tmp_path, guest):
    vm = linux("--name", name, kernel=guest.vmlinuz_686, initrd=guest.initrd_686)
    vm.wait_shell()
    vm.shell("mark=here")
    save_and_stop(run, vm, name, tmp_path / "saved")
    vm = machine("restore", tmp_path / "saved")
    assert vm.shell("echo $mark") == "here\n"
    vm.check_kernel_log()
    assert vm.power_off() == 0


def test_save_and_restore_with_a_disk(linux, machine, run, name, tmp_path):
    """Requests go on to the same file, and what was written before is there."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(16 << 20))
    vm = linux("--name", name, "--disk", f"{image},format=raw,if=virtio")
    vm.wait_shell()
    vm.shell("cat /bin/busybox >/dev/vda; sync")
    save_and_stop(run, vm, name, tmp_path / "saved")
    vm = machine("restore", tmp_path / "saved")
    vm.shell("echo 3 >/proc/sys/vm/drop_caches; size=$(wc -c </bin/busybox)")
    vm.shell("head -c $size /dev/vda | cmp - /bin/busybox")
    vm.shell("head -c 512 /init | dd of=/dev/vda bs=512 seek=30000 2>/dev/null; sync")
    vm.check_kernel_log()
    assert vm.power_off() == 0
    content = image.read_bytes()
    assert content[30000 * 512:30000 * 512 + 14] == b"#!/bin/busybox"


def test_save_and_restore_in_the_middle_of_a_boot(linux, machine, run, name, tmp_path, guest):
    """Debian's root disk, caught while its services start."""
    vm = linux("--name", name, "--disk", f"{guest.root},format=raw,if=virtio,snapshot=on", append="root=/dev/vda rw",
               memory="512M")
    vm.expect("systemd|Welcome|login: ", BOOT_TIMEOUT)
    saved = run("save", name, tmp_path / "saved", timeout=2 * TIMEOUT)
    if saved.returncode != 0:
        # A throw-away disk has no file that a second process could go on from: then the message has to say so.
        assert "snapshot" in saved.stderr and len(saved.stderr.splitlines()) == 1
        pytest.skip("a disk with snapshot=on is not saved")
    assert run("stop", name).returncode == 0
    vm.wait_exit()
    vm = machine("restore", tmp_path / "saved")
    vm.login()
    assert "bookworm" in vm.shell("cat /etc/os-release")
    vm.console.sendline("systemctl poweroff")
    assert vm.wait_exit(BOOT_TIMEOUT) == 0


def test_restored_machine_has_the_same_state(linux, run, name, tmp_path):
    """The hash that is taken when a restored machine stops at once is that of the machine that was saved."""
    vm = linux("--name", name, "--clock", "icount")
    vm.wait_shell()
    assert run("pause", name).returncode == 0
    saved = run("save", name, tmp_path / "saved", timeout=2 * TIMEOUT)
    assert saved.returncode == 0, saved.stderr
    assert run("stop", name).returncode == 0
    vm.wait_exit()
    hashes = {state_hash(run("restore", tmp_path / "saved", "--serial", "none", "--stop-after", 0, "--state-hash"))
              for _ in range(2)}
    assert len(hashes) == 1


def state_hash(result):
    """The hash that --state-hash prints at the end."""
    assert result.returncode == 0, result.stderr
    found = re.findall(r"\b[0-9a-f]{32}\b", result.stdout + result.stderr)
    assert found, result.stdout + result.stderr
    return found[-1]


@pytest.mark.parametrize("cpus", [1, 4])
def test_icount_is_deterministic(guest, run, tmp_path, cpus):
    """The same guest with the same input ends in the same state, to the last bit, after a boot and some work."""
    hashes, outputs = [], []
    for turn in range(2):
        result = run("run", "--kernel", guest.vmlinuz, "--initrd", guest.initrd, "--memory", "256M", "--cpus", cpus,
                     "--append", "console=ttyS0 guest.run=md5sum+/bin/busybox+/proc/uptime+/proc/interrupts",
                     "--clock", "icount", "--rtc", "2024-02-29T12:00:00", "--serial", f"file:serial{turn}",
                     "--state-hash", timeout=2 * BOOT_TIMEOUT)
        hashes.append(state_hash(result))
        outputs.append((tmp_path / f"serial{turn}").read_bytes())
    assert b"/proc/interrupts" in outputs[0]
    assert outputs[0] == outputs[1]
    assert hashes[0] == hashes[1]


def test_icount_hash_depends_on_what_was_run(guest, run):
    """The hash is of the state: another command line gives another one."""
    def boot(command):
        return state_hash(run("run", "--kernel", guest.vmlinuz, "--initrd", guest.initrd, "--memory", "256M",
                              "--append", command, "--clock", "icount", "--rtc", "2024-02-29T12:00:00", "--serial",
                              "none", "--stop-after", 100000, "--state-hash"))
    assert boot("quiet") != boot("quieT")


def test_info(linux, run, name):
    vm = linux("--name", name)
    vm.wait_shell()
    listed = run("ls", "--json")
    assert listed.returncode == 0, listed.stderr
    assert name in json.dumps(json.loads(listed.stdout))
    assert name in run("ls").stdout
    info = run("info", name, "--json")
    assert info.returncode == 0, info.stderr
    json.loads(info.stdout)
    field = run("info", name, "vcpu0.rip")
    assert field.returncode == 0, field.stderr
    assert re.search(r"[0-9a-f]{4,}", field.stdout)
    text = run("info", name)
    assert text.returncode == 0 and "vcpu0" in text.stdout
    engine = json.loads(info.stdout)["engine"]
    assert "blocks_built" in run("info", name, engine).stdout
    nonsense = run("info", name, "vcpu0.nonsense")
    assert nonsense.returncode == 1 and len(nonsense.stderr.splitlines()) == 1
    assert run("stop", name).returncode == 0
    assert vm.wait_exit() == 0
    assert run("info", name).returncode == 1
