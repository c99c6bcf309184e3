"""Engines are interchangeable: the same machine under each of them, and moved from one to the other while it runs."""
import hashlib
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pexpect
import pytest

from initramfs import add_program, pack
from machine import BOOT_TIMEOUT, TIMEOUT
from test_state import save_and_stop, state_hash

WORK = "md5sum+/bin/busybox+/proc/uptime+/proc/interrupts"


@pytest.mark.parametrize("cpus", [1, 2])
def test_engines_end_in_one_state(guest, run, tmp_path, cpus):
    """Under icount a boot and some work end in the same state, to the last bit, whatever executes the instructions."""
    hashes, outputs = {}, {}
    for engine in "interp", "jit":
        result = run("run", "--engine", engine, "--jit-threshold", 2, "--kernel", guest.vmlinuz, "--initrd", guest.initrd,
                     "--memory", "256M", "--cpus", cpus, "--append", f"console=ttyS0 guest.run={WORK}",
                     "--clock", "icount", "--rtc", "2024-02-29T12:00:00", "--serial", f"file:{engine}", "--state-hash",
                     timeout=2 * BOOT_TIMEOUT)
        hashes[engine] = state_hash(result)
        outputs[engine] = (tmp_path / engine).read_bytes()
    assert b"/proc/interrupts" in outputs["interp"]
    assert outputs["interp"] == outputs["jit"]
    assert hashes["interp"] == hashes["jit"]


def test_engines_end_in_one_state_32bit(guest, run):
    """The same for the first 800 million instructions of a kernel of 32-bit code."""
    hashes = [state_hash(run("run", "--engine", engine, "--jit-threshold", 2, "--kernel", guest.vmlinuz_686, "--initrd",
                             guest.initrd_686, "--memory", "256M", "--append", "console=ttyS0", "--clock", "icount", "--rtc",
                             "2024-02-29T12:00:00", "--serial", "none", "--stop-after", 800000000, "--state-hash",
                             timeout=2 * BOOT_TIMEOUT)) for engine in ("interp", "jit")]
    assert hashes[0] == hashes[1]


def test_perf_map(guest, plastron, tmp_path):
    """perf finds a name for each translation: start, size, and what it is of."""
    process = subprocess.Popen([plastron, "run", "--engine", "jit", "--jit-perf-map", "--kernel", guest.vmlinuz, "--initrd",
                                guest.initrd, "--memory", "256M", "--append", "console=ttyS0 guest.run=true", "--serial",
                                "none"], cwd=tmp_path)
    assert process.wait(BOOT_TIMEOUT) == 0
    made = Path(f"/tmp/perf-{process.pid}.map")
    lines = made.read_text().splitlines()
    made.unlink()
    assert all(re.fullmatch("[0-9a-f]+ [0-9a-f]+ (stub [a-z_]+|guest (user|kernel)64 [0-9a-f]+)", line) for line in lines)
    assert any("guest kernel64 ffffffff" in line for line in lines) and any("guest user64" in line for line in lines)


def test_trace_jit(guest, run, tmp_path):
    """--trace jit shows translations: every instruction of theirs with its address, host code beside it, exits below."""
    result = run("run", "--engine", "jit", "--jit-threshold", 50000, "--trace", "jit,file=trace", "--kernel", guest.vmlinuz,
                 "--initrd", guest.initrd, "--memory", "256M", "--append", "console=ttyS0 guest.run=true", "--serial", "none",
                 timeout=BOOT_TIMEOUT)
    assert result.returncode == 0, result.stderr
    blocks = re.split("^jit  ", (tmp_path / "trace").read_text(), flags=re.M)[1:]
    assert len(blocks) > 10
    for block in blocks:
        rip, count, size = re.match("cpu0 (?:user|kernel) ([0-9a-f]{16})  ([0-9]+) instructions, ([0-9]+) bytes; ", block).groups()
        guest_side = [int(address, 16) for address in re.findall("^  ([0-9a-f]{16})  .*\\|", block, re.M)]
        assert guest_side[0] == int(rip, 16) and len(guest_side) == int(count) and guest_side == sorted(guest_side)
        assert guest_side[-1] < int(rip, 16) + int(size)
    assert re.search(r"^  [0-9a-f]{16}  \w+ .*\|   [0-9a-f]{16}  \w+", blocks[0], re.M)
    assert any("not in the TLB, instruction " in block for block in blocks)


@pytest.mark.parametrize("cpus, size", [(1, "1M"), (2, "4M")])
def test_small_code_cache(guest, run, tmp_path, cpus, size):
    """A code cache that is far too small is emptied again and again, and the guest does not notice."""
    result = run("run", "--engine", "jit", "--jit-threshold", 1, "--jit-cache", size, "--cpus", cpus, "--kernel",
                 guest.vmlinuz, "--initrd", guest.initrd, "--memory", "256M", "--append",
                 "console=ttyS0 guest.run=md5sum+/bin/busybox", "--serial", "file:serial", timeout=2 * BOOT_TIMEOUT)
    assert result.returncode == 0, result.stderr
    assert b"/bin/busybox" in (tmp_path / "serial").read_bytes()


@pytest.mark.parametrize("cpus", [1, 2])
def test_hop(linux, run, name, cpus):
    """A machine goes from engine to engine while it boots and works; one engine's name is no other's."""
    vm = linux("--name", name, "--engine", "interp", "--cpus", cpus)
    while run("engine", name, "jit").returncode:  # its socket is not there at once
        assert vm.console.isalive()
        time.sleep(0.05)
    for _ in range(10):
        for engine in "jit", "interp":
            hopped = run("engine", name, engine)
            assert hopped.returncode == 0, hopped.stderr
    vm.wait_shell()
    vm.console.sendline("(for i in 1 2 3 4; do md5sum /bin/busybox & md5sum /bin/busybox; wait; done) | uniq | wc -l; echo he''re")
    for _ in range(10):
        for engine in "jit", "interp":
            hopped = run("engine", name, engine)
            assert hopped.returncode == 0, hopped.stderr
    vm.expect(r"1\s+here")
    assert run("engine", name, "jit").returncode == 0
    assert "jit" in run("info", name).stdout
    vm.console.sendline("md5sum /bin/busybox; echo ag''ain")
    vm.expect("again")
    facts = json.loads(run("info", name, "jit[0]", "--json").stdout)
    assert facts["translated"]["blocks"] and facts["exits"]["unlinked"] and facts["exits_at"]
    wrong = run("engine", name, "nonsense")
    assert wrong.returncode == 1 and len(wrong.stderr.splitlines()) == 1
    vm.console.sendline("poweroff -f")
    assert vm.wait_exit(BOOT_TIMEOUT) == 0


def source(functions):
    """A C program of loops, switches, structures, integers and floating point; no headers."""
    return "struct s { long a[8]; double d; char c[16]; };\n" + "\n".join(f"""
static long f{n}(struct s *s, unsigned x)
{{
    long sum = {n * 7919 % 1009};
    for (unsigned i = 0; i < x % {n % 13 + 3}; i++) {{
        switch ((x >> i) % 5) {{
        case 0: sum += s->a[i & 7] * {n + 3}; break;
        case 1: sum ^= sum << {n % 31 + 1} | s->c[i & 15]; break;
        case 2: s->d = s->d * {n}.5 + (double)sum / (i + 1); break;
        case 3: s->a[(i + {n}) & 7] -= (long)s->d % {n + 2}; break;
        default: sum = sum % {n + 11} + {f"f{n - 1}(s, x / 2)" if n else "1"}; break;
        }}
    }}
    return sum;
}}""" for n in range(functions)) + f"\nlong all(struct s *s) {{ return f{functions - 1}(s, 99); }}\n"


def test_compile_while_hopping(linux, guest, run, name, tmp_path):
    """Linux boots and compiles a C program while the machine goes from engine to engine every 50 ms, at places that no test
    chooses: the object file is the one that the host's compiler makes."""
    compiler = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True).stdout.strip()
    commands = "{cc1} -quiet -nostdinc -O2 test.c -o test.s && {as_} test.s -o test.o"
    root = tmp_path / "root"
    add_program(root, compiler, "root/cc1")
    add_program(root, "/usr/bin/as", "root/as")
    (root / "root/test.c").write_text(source(12))
    subprocess.run(commands.format(cc1=compiler, as_="as"), shell=True, check=True, cwd=root / "root")
    wanted = hashlib.md5((root / "root/test.o").read_bytes()).hexdigest()
    for made in "test.s", "test.o":
        (root / "root" / made).unlink()
    (tmp_path / "initrd").write_bytes(guest.initrd.read_bytes() + pack(root))

    vm = linux("--name", name, "--engine", "interp", initrd=tmp_path / "initrd", memory="512M")
    engines, hops = ("jit", "interp"), 0
    while run("engine", name, "jit").returncode:  # its socket is not there at once
        assert vm.console.isalive()

    def hop_until(pattern, timeout):
        nonlocal hops
        end = time.monotonic() + timeout
        while vm.console.expect([pattern, pexpect.TIMEOUT], timeout=0.05):
            assert time.monotonic() < end
            hops += 1
            assert run("engine", name, engines[hops % 2]).returncode == 0

    hop_until("guest# ", 2 * BOOT_TIMEOUT)
    vm.console.sendline(commands.format(cc1="./cc1", as_="./as") + "; md5sum test.o; echo e''nd")
    hop_until(r"\nend", 2 * BOOT_TIMEOUT)
    assert f"{wanted}  test.o" in vm.output()
    assert hops > 20
    vm.console.sendline("poweroff -f")
    assert vm.wait_exit(BOOT_TIMEOUT) == 0


@pytest.mark.parametrize("before, after", [("interp", "jit"), ("jit", "interp")])
def test_save_and_restore_under_the_other(linux, machine, run, name, tmp_path, before, after):
    """A machine that was saved under one engine goes on under the other."""
    vm = linux("--name", name, "--engine", before)
    vm.wait_shell()
    vm.shell("(while :; do md5sum /bin/busybox; done) >/tmp/sums & true")
    save_and_stop(run, vm, name, tmp_path / "saved")
    vm = machine("restore", tmp_path / "saved", "--name", name, "--engine", after)
    vm.shell("sleep 1; kill %1; sleep 1", timeout=2 * TIMEOUT)
    assert vm.shell("sed '$d' /tmp/sums | sort -u | wc -l") == "1\n"
    assert after in run("info", name).stdout
    vm.check_kernel_log()
    assert vm.power_off() == 0


@pytest.mark.long
def test_luajit(linux, guest, tmp_path, monkeypatch):
    """A guest that makes and patches machine code of its own: what LuaJIT's traces compute is what its interpreter computes on
    the host."""
    folder = guest.initrd.parent / "luajit"
    assert folder.is_dir(), f"{folder} is not there: run tools/guest/make-guest.sh {folder.parent} luajit"
    script = Path(__file__).parents[2] / "bench/guest/loops.lua"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    wanted = subprocess.run([folder / "luajit", "-joff", script], capture_output=True, text=True, check=True).stdout
    root = tmp_path / "root"
    add_program(root, folder / "luajit", "root/luajit")
    shutil.copy(folder / "libluajit-5.1.so.2", root / "lib/x86_64-linux-gnu")
    shutil.copy(script, root / "root")
    monkeypatch.delenv("LD_LIBRARY_PATH")
    (tmp_path / "initrd").write_bytes(guest.initrd.read_bytes() + pack(root))
    vm = linux("--engine", "jit", initrd=tmp_path / "initrd")
    vm.wait_shell()
    assert vm.shell("./luajit loops.lua", timeout=5 * TIMEOUT) == wanted
    assert vm.power_off() == 0
