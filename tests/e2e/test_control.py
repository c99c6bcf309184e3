"""A running machine is paused, stopped, reset, asked to turn off, and ended by its user."""
import os
import signal
import subprocess
import termios
import time

import pexpect
import pytest

from machine import BOOT_TIMEOUT, SLOW, TIMEOUT

pytestmark = pytest.mark.own


def sockets(environment):
    """What lies in the folder of the control sockets."""
    return [name for _, _, names in os.walk(environment["XDG_RUNTIME_DIR"]) for name in names]


def test_power_button(linux, run, name):
    """The guest hears the button through ACPI and turns itself off."""
    vm = linux("--name", name)
    vm.wait_shell()
    pressed = run("powerdown", name)
    assert pressed.returncode == 0, pressed.stderr
    assert vm.wait_exit() == 0


def test_reset(linux, run, name):
    vm = linux("--name", name)
    vm.wait_shell()
    vm.shell("touch /tmp/mark")
    assert run("reset", name).returncode == 0
    vm.wait_shell()
    vm.shell("test -e /tmp/mark", status=1)
    assert vm.power_off() == 0


def test_pause_and_resume(linux, run, name):
    vm = linux("--name", name)
    vm.wait_shell()
    assert run("pause", name).returncode == 0
    vm.console.sendline("echo answ''er")
    with pytest.raises(pexpect.TIMEOUT):
        vm.expect("answer", timeout=2)
    assert run("resume", name).returncode == 0
    vm.expect("answer")
    assert vm.power_off() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_the_machine_cleanly(linux, environment, name, number):
    vm = linux("--name", name)
    before = termios.tcgetattr(vm.console.fileno())
    vm.wait_shell()
    assert sockets(environment)
    # Raw mode, so that the guest gets each key; given back at the end.
    assert termios.tcgetattr(vm.console.fileno())[3] != before[3] or not before[3] & termios.ICANON
    vm.console.kill(number)
    assert vm.wait_exit() == 0
    assert sockets(environment) == []


def test_terminal_is_restored(plastron, guest, environment):
    """The terminal is as it was before, seen from a shell on that terminal."""
    shell = pexpect.spawn("/bin/sh", ["-i"], env=dict(environment, PS1="% "), encoding="utf-8", timeout=BOOT_TIMEOUT,
                          dimensions=(50, 300))
    shell.expect("% ")

    def settings():
        shell.sendline("stty -g; echo done")
        shell.expect(r"\n([0-9a-f:]+)\r\ndone")
        return shell.match[1]

    before = settings()
    shell.sendline(f"{plastron} run --kernel {guest.vmlinuz} --initrd {guest.initrd} --append 'console=ttyS0 quiet'")
    shell.expect("guest# ")
    shell.send("\x01x")  # Ctrl-A X
    assert settings() == before
    shell.close(force=True)


def test_closed_terminal_ends_the_machine(plastron, guest, environment, tmp_path):
    """The window is closed: the program does not stay behind."""
    child = pexpect.spawn(str(plastron), ["run", "--kernel", str(guest.vmlinuz), "--initrd", str(guest.initrd),
                                          "--append", "console=ttyS0 quiet"], env=environment, timeout=BOOT_TIMEOUT)
    child.expect("guest# ")
    os.close(child.child_fd)
    end = time.monotonic() + TIMEOUT
    while True:
        pid, _ = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            os.kill(child.pid, signal.SIGKILL)
            pytest.fail("the program went on without its terminal")
        time.sleep(0.1)
    child.closed = child.terminated = True
    assert sockets(environment) == []


def test_two_machines_at_once(linux, run):
    first, second = linux("--name", "one"), linux("--name", "two")
    first.wait_shell()
    second.wait_shell()
    first.shell("echo 1 >/tmp/mark")
    second.shell("echo 2 >/tmp/mark")
    assert first.shell("cat /tmp/mark") == "1\n"
    assert {"one", "two"} <= set(run("ls").stdout.split())
    assert run("stop", "one").returncode == 0
    assert first.wait_exit() == 0
    assert second.shell("cat /tmp/mark") == "2\n"
    assert second.power_off() == 0


def test_serial_lines(linux, tmp_path, guest):
    """The second line goes to a file; text of the guest arrives there whole."""
    vm = linux("--serial", "stdio", "--serial", f"file:{tmp_path}/line2")
    vm.wait_shell()
    vm.shell("md5sum /bin/busybox >/dev/ttyS1; stty -F /dev/ttyS1 -a >/dev/null")
    assert vm.power_off() == 0
    assert "/bin/busybox" in (tmp_path / "line2").read_text()


def test_console_over_a_unix_socket(plastron, guest, run, name, environment, tmp_path):
    """A machine in the background, its console reached from another terminal."""
    with subprocess.Popen([plastron, "run", "--kernel", guest.vmlinuz, "--initrd", guest.initrd, "--append",
                           "console=ttyS0 quiet", "--serial", "unix:console", "--name", name], cwd=tmp_path,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment) as process:
        try:
            end = time.monotonic() + TIMEOUT
            while not (tmp_path / "console").exists() and time.monotonic() < end:
                time.sleep(0.1)
            console = pexpect.spawn(str(plastron), ["console", name], env=environment, encoding="utf-8",
                                    timeout=BOOT_TIMEOUT, cwd=str(tmp_path))
            console.sendline("")
            console.expect("guest# ")
            console.sendline("echo $((6 * 7))")
            console.expect("42")
            assert run("stop", name).returncode == 0
            assert process.wait(TIMEOUT) == 0
            console.expect(pexpect.EOF)
        finally:
            process.kill()


def test_idle_guest_sleeps(linux):
    """An idle guest uses under 3% of a core: measured in processor time, not on the wall."""
    vm = linux()
    vm.wait_shell()
    vm.shell("sleep 3")

    def used():
        with open(f"/proc/{vm.console.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, start = used(), time.monotonic()
    time.sleep(10)
    share = (used() - before) / (time.monotonic() - start)
    assert share < 0.03 * SLOW
    assert vm.power_off() == 0
