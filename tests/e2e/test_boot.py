"""Linux boots, works and turns itself off."""
import hashlib
import subprocess

import pytest

from machine import BOOT_TIMEOUT, TIMEOUT


@pytest.mark.parametrize("engine", ["interp", "jit"])
@pytest.mark.parametrize("cpus", [1, 2, 4, pytest.param(8, marks=pytest.mark.long)])
def test_shell(linux, cpus, engine):
    """More than one processor: a host thread for each."""
    vm = linux("--cpus", cpus, "--engine", engine)
    assert vm.wait_shell() == cpus
    assert vm.shell("uname -m") == "x86_64\n"
    assert vm.shell("echo $((6 * 7))") == "42\n"
    assert vm.shell("grep -c ^processor /proc/cpuinfo") == f"{cpus}\n"
    # Work on every processor at once gives what it gives on one.
    vm.shell("for i in 1 2 3 4; do md5sum /bin/busybox >/tmp/$i & done; wait")
    assert vm.shell("cat /tmp/[1-4] | sort -u | wc -l") == "1\n"
    vm.shell("sleep 1")
    vm.check_kernel_log()
    assert vm.power_off() == 0


def test_every_processor_runs_code(linux):
    vm = linux("--cpus", 4)
    vm.wait_shell()
    for cpu in range(4):
        vm.shell(f"taskset {1 << cpu:x} md5sum /init")
    busy = vm.shell("grep ^cpu[0-9] /proc/stat")
    assert len(busy.splitlines()) == 4
    assert vm.power_off() == 0


def test_leaving_the_shell_turns_off(linux):
    vm = linux()
    vm.wait_shell()
    vm.console.sendline("exit")
    assert vm.wait_exit() == 0


def test_32bit_kernel(linux, guest):
    vm = linux(kernel=guest.vmlinuz_686, initrd=guest.initrd_686)
    vm.wait_shell()
    assert vm.shell("uname -m") == "i686\n"
    vm.shell("md5sum /bin/busybox")
    vm.check_kernel_log()
    assert vm.power_off() == 0


def test_pvh_kernel(linux, guest):
    """The same kernel as an ELF file, which has a PVH note."""
    vm = linux(kernel=guest.vmlinux)
    vm.wait_shell()
    assert vm.shell("uname -m") == "x86_64\n"
    assert vm.power_off() == 0


def test_clock_goes_on(linux):
    """The guest's clocks agree on how long a second of sleep is, whatever that was for the host."""
    vm = linux()
    vm.wait_shell()
    vm.shell("read a b </proc/uptime; sleep 3; read c d </proc/uptime")
    # /proc/uptime has two decimals; ash has whole numbers only.
    assert int(vm.shell("echo $(( ${c%.*} - ${a%.*} ))")) >= 2
    assert int(vm.shell("date +%Y")) >= 2024
    assert vm.power_off() == 0


def test_memory_size(linux):
    vm = linux(memory="1G")
    vm.wait_shell()
    total = int(vm.shell("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    assert 900 * 1024 < total < 1024 * 1024
    # Memory holds what is written to it.
    vm.shell("mount -t tmpfs -o size=700m none /mnt")
    vm.shell("dd if=/dev/zero of=/mnt/zero bs=1M count=600 2>/dev/null", 3 * TIMEOUT)
    vm.shell("head -c 16m </dev/urandom >/mnt/a; cp /mnt/a /mnt/b", 2 * TIMEOUT)
    assert vm.shell("md5sum </mnt/a", 2 * TIMEOUT) == vm.shell("md5sum </mnt/b", 2 * TIMEOUT)
    assert vm.power_off() == 0


def test_reboot(linux):
    """A reset loads the kernel again."""
    vm = linux()
    vm.wait_shell()
    vm.shell("touch /tmp/mark")
    vm.console.sendline("reboot -f")
    vm.wait_shell()
    vm.shell("test -e /tmp/mark", status=1)
    assert vm.power_off() == 0


def test_no_reboot(linux):
    vm = linux("--no-reboot")
    vm.wait_shell()
    vm.console.sendline("reboot -f")
    assert vm.wait_exit() == 0


def disk(path, size=16 << 20):
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def test_disk(linux, tmp_path):
    """What one boot writes to a disk, the next one reads."""
    image = disk(tmp_path / "disk.img")
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", image], check=True)
    vm = linux("--disk", f"{image},format=raw,if=virtio")
    vm.wait_shell()
    assert vm.shell("cat /sys/block/vda/size") == f"{(16 << 20) // 512}\n"
    vm.shell("mount -t ext4 /dev/vda /mnt")
    vm.shell("cp /bin/busybox /mnt/copy && umount /mnt && sync")
    assert vm.power_off() == 0

    vm = linux("--disk", f"{image},format=raw,if=virtio,readonly=on")
    vm.wait_shell()
    vm.shell("mount -t ext4 -o ro /dev/vda /mnt && cmp /mnt/copy /bin/busybox")
    vm.shell("umount /mnt; echo x 2>/dev/null >/dev/vda", status=1)
    assert vm.power_off() == 0


def test_disk_matches_the_file(linux, tmp_path):
    """Every sector is where it belongs, read directly with large and small requests."""
    image = tmp_path / "disk.img"
    content = b"".join(hashlib.sha512(b"%d" % i).digest() * 8 for i in range(8192))  # 4 MiB
    image.write_bytes(content)
    vm = linux("--disk", f"{image},format=raw,if=virtio,readonly=on")
    vm.wait_shell()
    assert vm.shell("md5sum </dev/vda").split()[0] == hashlib.md5(content).hexdigest()
    vm.shell("echo 3 >/proc/sys/vm/drop_caches")
    sector = vm.shell("dd if=/dev/vda bs=512 skip=5000 count=3 2>/dev/null | md5sum").split()[0]
    assert sector == hashlib.md5(content[5000 * 512:5003 * 512]).hexdigest()
    assert vm.power_off() == 0


def test_disk_snapshot_on_leaves_the_file_alone(linux, tmp_path):
    image = disk(tmp_path / "disk.img")
    vm = linux("--disk", f"{image},format=raw,if=virtio,snapshot=on")
    vm.wait_shell()
    vm.shell("cat /bin/busybox >/dev/vda; sync")
    vm.shell("cmp -n 100000 /bin/busybox /dev/vda")
    assert vm.power_off() == 0
    assert image.read_bytes() == bytes(16 << 20)


def test_debian_root_disk(linux, guest):
    vm = linux("--disk", f"{guest.root},format=raw,if=virtio,snapshot=on", append="root=/dev/vda rw", memory="512M")
    vm.login()
    assert "bookworm" in vm.shell("cat /etc/os-release")
    assert vm.shell("findmnt -no SOURCE,FSTYPE /").split() == ["/dev/vda", "ext4"]
    vm.shell("dpkg --audit && perl -e 'print 2**0.5' >/dev/null", 2 * TIMEOUT)
    assert "0 loaded units" in vm.shell("systemctl --failed --no-pager")
    vm.console.sendline("systemctl poweroff")
    assert vm.wait_exit(BOOT_TIMEOUT) == 0
