"""A virtual machine under test: the plastron program on a pseudo-terminal, and what one does with its console."""
import os
import re
import signal
import subprocess
import tempfile

import pexpect

# Builds with sanitizers are slower by this factor (tests/run.py sets it). Time limits only end what hangs: no test
# passes or fails by how fast the machine is that it runs on.
SLOW = float(os.environ.get("PLASTRON_SLOW", "1"))
BOOT_TIMEOUT = 120 * SLOW
TIMEOUT = 60 * SLOW

PROMPT = "guest# "
# A line of a kernel that is unwell.
KERNEL_TROUBLE = re.compile(r"BUG:|WARNING:|\bOops\b|Call Trace|general protection|Kernel panic|soft lockup|rcu.*stall"
                            r"|unchecked MSR|nobody cared|[Ss]purious|[Ll]ost interrupt|timed out")


class Machine:
    """A run of the program. `words` are its arguments; use as a context manager, which kills what still runs."""

    def __init__(self, program, words, cwd=None, env=None):
        self.words = [str(word) for word in words]
        # Plain terminal, wide enough that no line of ours wraps.
        self.console = pexpect.spawn(str(program), self.words, timeout=TIMEOUT, encoding="utf-8",
                                     codec_errors="replace", cwd=cwd, env=env, dimensions=(50, 200), echo=False)
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", newline="")
        self.console.logfile_read = self.log

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.console.isalive():
            self.console.kill(signal.SIGKILL)
        self.console.close(force=True)
        if kind:
            print("arguments:", " ".join(self.words))
            print("console:\n" + self.output())
        self.log.close()

    def output(self):
        """All that the console has said so far."""
        self.log.seek(0)
        text = self.log.read().replace("\r", "")
        self.log.seek(0, os.SEEK_END)
        return text

    def expect(self, pattern, timeout=TIMEOUT):
        """Wait for a pattern. Returns the match. A guest that panics, or a program that ends, is not waited for."""
        found = self.console.expect([pattern, "Kernel panic - not syncing.*"], timeout=timeout)
        assert found == 0, self.console.match[0]
        return self.console.match

    def wait_shell(self):
        """Wait for the shell of the small guest. Returns the number of processors that it reports."""
        ready = self.expect(r"guest ready: Linux \S+ \S+, (\d+) cpus", BOOT_TIMEOUT)
        self.expect(PROMPT)
        return int(ready[1])

    def login(self):
        """Wait for the login prompt of the Debian system, and log in as root."""
        self.expect("login: ", 2 * BOOT_TIMEOUT)
        self.console.sendline("root")
        self.expect(r"root@debian:\S*# ", 2 * TIMEOUT)
        self.console.sendline("exec sh")  # without bash's escape sequences
        self.expect(r"[\r\n]# ")

    def shell(self, command, timeout=TIMEOUT, status=0):
        """Run a command in the guest's shell. Returns its output; its exit status has to be `status`."""
        self.console.sendline(f"echo BEGIN; {command}; echo \"END=$?\"")
        match = self.expect(r"\nBEGIN\r+\n(?s:(.*?))END=(\d+)\r", timeout)
        assert int(match[2]) == status, f"{command}: status {match[2]}, output: {match[1]}"
        return re.sub("\r+\n", "\n", match[1])  # the guest's terminal adds a \r, and the host's may too

    def wait_exit(self, timeout=TIMEOUT):
        """Wait for the program to end. Returns its exit status; a death by signal N is -N."""
        self.console.expect(pexpect.EOF, timeout=timeout)
        self.console.wait()
        if self.console.exitstatus is None:
            return -self.console.signalstatus
        return self.console.exitstatus

    def power_off(self):
        """Turn the guest off from its shell. Returns the program's exit status."""
        self.console.sendline("poweroff -f")
        return self.wait_exit()

    def check_kernel_log(self):
        """The kernel has nothing to complain about."""
        log = self.shell("dmesg", 2 * TIMEOUT)
        trouble = [line for line in log.splitlines() if KERNEL_TROUBLE.search(line)]
        assert not trouble, "\n".join(trouble)


def run(program, *words, timeout=TIMEOUT, **options):
    """Run the program to its end without a terminal. Returns subprocess's result, with text output."""
    return subprocess.run([str(program), *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout, check=False, **options)


def qemu_words(words):
    """The arguments of `plastron run` as QEMU's, for the tests that run against QEMU to check themselves."""
    result = ["-accel", "tcg,thread=single", "-cpu", "max", "-nodefaults", "-display", "none", "-no-user-config"]
    serial = "mon:stdio"
    words = iter(words)
    assert next(words) == "run"
    for word in words:
        if word in ("--kernel", "--initrd", "--append"):
            result += ["-" + word.strip("-"), next(words)]
        elif word == "--memory":
            result += ["-m", next(words)]
        elif word == "--cpus":
            result += ["-smp", next(words)]
        elif word == "--disk":
            path, *properties = next(words).split(",")
            result += ["-drive", ",".join(["file=" + path, *properties])]
        elif word == "--no-reboot":
            result.append("-no-reboot")
        elif word == "--debug-exit":
            result += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        elif word == "--debugcon":
            path, *port = next(words).split(",port=")
            number = result.count("-chardev")
            result += ["-chardev", f"file,id=debug{number},path={path}", "-device",
                       f"isa-debugcon,chardev=debug{number},iobase={port[0] if port else '0xe9'}"]
        elif word == "--serial":
            serial = next(words)
        else:
            raise NotImplementedError(word)
    return result + ["-serial", serial]
