"""What the program makes of guests that are no operating system: their exit status, their output, their crashes."""
import json
import time

import pytest

from kernels import (EXIT, HALT, JUMP_INTO_NOWHERE, RESET, TRIPLE_FAULT, every_mmio, every_port, multiboot, out, text)
from machine import TIMEOUT


@pytest.fixture
def kernel(machine, tmp_path):
    """kernel(CODE, WORD...) runs a multiboot kernel of that code."""

    def start(code, *words):
        path = tmp_path / "kernel"
        path.write_bytes(multiboot(code))
        return machine("run", "--kernel", path, "--memory", "32M", *words)

    return start


@pytest.mark.parametrize("value", [0, 1, 0x15, 0x7F])
def test_debug_exit(kernel, value):
    assert kernel(out(EXIT, value) + HALT, "--debug-exit").wait_exit() == value << 1 | 1


def test_debugcon(kernel, tmp_path):
    vm = kernel(text(0xE9, "hello\n") + out(EXIT, 0) + HALT, "--debug-exit", "--debugcon", tmp_path / "log")
    assert vm.wait_exit() == 1
    assert (tmp_path / "log").read_text() == "hello\n"


def test_debugcon_on_several_ports(kernel, tmp_path):
    code = text(0x505, "one") + text(0xE9, "two") + out(EXIT, 0) + HALT
    vm = kernel(code, "--debug-exit", "--debugcon", f"{tmp_path}/a,port=0x505", "--debugcon", f"{tmp_path}/b")
    assert vm.wait_exit() == 1
    assert (tmp_path / "a").read_text() == "one"
    assert (tmp_path / "b").read_text() == "two"


@pytest.mark.own
@pytest.mark.parametrize("code", [TRIPLE_FAULT, JUMP_INTO_NOWHERE], ids=["breakpoint", "nowhere"])
def test_triple_fault_ends_with_a_report(kernel, code):
    vm = kernel(code, "--no-reboot")
    assert vm.wait_exit() == 2
    report = vm.output().lower()
    assert "triple fault" in report
    assert "rip" in report or "eip" in report
    assert "cr0" in report


def test_triple_fault_resets(kernel, tmp_path):
    """Without --no-reboot it is a reset, as on hardware: the kernel starts again and again."""
    vm = kernel(text(0xE9, "x") + TRIPLE_FAULT, "--debugcon", tmp_path / "log")
    wait_for_size(tmp_path / "log", 3)
    assert vm.console.isalive()


def test_reset_through_the_keyboard_controller(kernel, tmp_path):
    vm = kernel(text(0xE9, "x") + RESET, "--debugcon", tmp_path / "log", "--no-reboot")
    assert vm.wait_exit() == 0
    assert (tmp_path / "log").read_text() == "x"


# The ports that reset (keyboard controller, port 92h, CF9h) or end the program, and those that reach them by a wide access.
PORTS_THAT_END = [(0x61, 0x64), (0x8F, 0x92), (0xF1, 0xF7), (0xCF6, 0xCF9)]


@pytest.mark.own
def test_every_port_at_every_width(kernel):
    """A guest that hammers every port ends by its own will; what it did on the way is its own affair."""
    code = every_port(PORTS_THAT_END) + out(EXIT, 5) + HALT
    vm = kernel(code, "--debug-exit", "--no-reboot", "--serial", "none")
    assert vm.wait_exit(3 * TIMEOUT) == 11


@pytest.mark.own
def test_every_mmio_address_at_every_width(kernel):
    """VGA's window, then the top of the 32-bit space with the local APIC, IOAPIC, HPET and the holes between. What is
    written to the local APIC may send this processor an NMI, for which there is no gate."""
    ranges = [(0xA0000, 0xC0000), (0xFEB00000, 0xFEC02000), (0xFED00000, 0xFED02000), (0xFEE00000, 0xFEE01000)]
    vm = kernel(every_mmio(ranges, 4) + out(EXIT, 5) + HALT, "--debug-exit", "--no-reboot", "--serial", "none")
    assert vm.wait_exit(3 * TIMEOUT) in (2, 11)


def wait_for_size(path, size, timeout=TIMEOUT):
    """Wait until a file has grown to a size."""
    end = time.monotonic() + timeout
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < end, f"{path} did not grow to {size} bytes"
        time.sleep(0.05)


@pytest.mark.own
def test_json_report_of_the_end(run, tmp_path):
    """One JSON object on standard error says how it ended."""
    (tmp_path / "kernel").write_bytes(multiboot(out(EXIT, 3) + HALT))
    result = run("run", "--kernel", "kernel", "--debug-exit", "--serial", "none", "--clock", "icount", "--state-hash", "--json")
    facts = json.loads(result.stderr)
    assert result.returncode == facts["exit-status"] == 7
    assert facts["end"] == "debug-exit" and len(facts["state-hash"]) == 32 and facts["instructions"] > 0
    (tmp_path / "kernel").write_bytes(multiboot(TRIPLE_FAULT))
    result = run("run", "--kernel", "kernel", "--no-reboot", "--serial", "none", "--json")
    facts = json.loads(result.stderr)
    assert result.returncode == facts["exit-status"] == 2
    assert facts["end"] == "crash" and "CR0" in facts["registers"]
