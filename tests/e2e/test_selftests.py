"""Linux's own judges of a processor: its self-tests (tools/guest/selftests/list), the tests of its cryptography, which cover
AES-NI to AVX2, its choice of RAID routines, and its tests of the translator for packet filters. Skipped by the tests
themselves: vm86 (no kernel of Debian has it), 32-bit SYSCALL on Intel's processors, what wants a second processor with one."""
import re

import pytest

from machine import KERNEL_TROUBLE, TIMEOUT

pytestmark = [pytest.mark.long, pytest.mark.own]

# Tests that do not pass, and why that is right: their exit status.
EXPECTED = {
    "amx": (1, "the processor has no AMX"),
    "memfd_secret": (4, "the kernel has it turned off"),
}
# By processor: the RAID routines that the kernel shall choose, and algorithms that shall have tested themselves.
AVX_DRIVERS = {"crc32c-intel", "__ecb-aes-aesni", "sha512-avx2", "__ecb-serpent-avx2", "__ecb-camellia-aesni-avx2"}
MODULES = {
    "max": ("avx2", AVX_DRIVERS | {"sha256-ni"}),
    "v2": ("sse2", {"crc32c-intel"}),
    "v3,vendor=AuthenticAMD": ("avx2", AVX_DRIVERS),
}
RESULT = re.compile(r"=== RUN (\d+) (\S+)([^\n]*)\n(.*?)\n=== END (\d+)\n", re.DOTALL)
FAILED_LINE = re.compile(r"^(\[FAIL\].*|not ok .*)", re.MULTILINE)


@pytest.fixture
def boot(machine, guest, tmp_path):
    """boot(COMMAND, WORD...) runs a command in a guest that has the self-tests and the modules, and gives all its output."""

    def run(command, *words, bits=64):
        folder = guest.vmlinuz.parent
        kernel, initrd = (folder / "vmlinuz-amd64", guest.initrd) if bits == 64 else (guest.vmlinuz_686, guest.initrd_686)
        assert (folder / "selftests.cpio").exists(), "run tools/guest/make-guest.sh build/guest selftests"
        image = tmp_path / "initrd"
        image.write_bytes(b"".join(path.read_bytes() for path in (initrd, folder / "selftests.cpio", folder / "modules.cpio")))
        vm = machine("run", "--kernel", kernel, "--initrd", image, "--memory", "1G", "--clock", "icount", "--append",
                     f"console=ttyS0 quiet vsyscall=emulate guest.run=sh+{command}", *words)
        assert vm.wait_exit(30 * TIMEOUT) == 0
        return re.sub("\r+\n", "\n", vm.output())

    return run


def check_selftests(output, expected):
    """Every test passed, or failed as it is expected to; the kernel had nothing to say."""
    results = RESULT.findall(output)
    assert len(results) > 40, output
    wrong = []
    for bits, name, arguments, text, status in results:
        wanted = expected.get(name, (0,))[0]
        if int(status) != wanted or (not wanted and FAILED_LINE.search(text)):
            wrong.append(f"{bits} {name}{arguments}: status {status}\n{text}")
    assert not wrong, "\n".join(wrong)
    log = output[output.index("=== LOG"):]
    trouble = [line for line in log.splitlines() if KERNEL_TROUBLE.search(line)]
    assert not trouble, "\n".join(trouble)


@pytest.mark.parametrize("words", [(), ("--cpus", "2"), ("--cpu", "max,vendor=AuthenticAMD")], ids=["1", "2", "amd"])
def test_selftests(boot, words):
    check_selftests(boot("/selftests/run", *words), EXPECTED)


def test_selftests_32bit_kernel(boot):
    check_selftests(boot("/selftests/run", "--cpus", "2", bits=32), {})


@pytest.mark.parametrize("cpu", MODULES)
def test_kernel_modules(boot, cpu):
    """Each algorithm tests itself when it is registered; tcrypt tests all that the kernel knows of. Status -2 is that of
    what Debian's kernel does not have."""
    raid, wanted = MODULES[cpu]
    output = boot("/selftests/modules", "--cpu", cpu)
    log = output[output.index("=== LOG"):]
    wrong = re.findall(r"alg: (?!self-tests for .* failed \(rc=-2\)|.*failed to allocate transform for .*: -2"
                       r"|.* passed|No test).*", log)
    assert not wrong, "\n".join(wrong)
    drivers = dict(re.findall(r"=== DRIVER (\S+) (\S+)", output))
    assert set(drivers.values()) == {"passed"}, drivers
    assert wanted <= set(drivers), drivers
    assert re.search(r"test_bpf: Summary: \d+ PASSED, 0 FAILED", log)
    assert re.search(rf"raid6: using algorithm {raid}x\d", log)
