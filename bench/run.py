#!/usr/bin/python3
"""Measure Plastron beside Bochs and QEMU TCG, in one run: `make bench`.

The same kernel, initramfs and static program (bench/guest.c) run under each engine that is installed, in turn, several
rounds; the host's clock stamps the marker lines of the guest's serial console as they arrive. The table shows medians
and ratios, and BUILD/bench/result.json keeps every figure. Further rows: the time from the program's start to the end
of a guest of one instruction, and the memory of the program (PSS) that is not guest RAM.
"""
import argparse
import json
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ["boot", "integer", "qsort", "sieve", "matmul", "getppid"]
# earlyprintk with loglevel 6 prints the kernel's first line and little more: from there to the shell is "boot".
FIRST_LINE = "Linux version"
COMMAND_LINE = "earlyprintk=ttyS0 console=ttyS0 loglevel=6 guest.run=/bench"
MARKER = re.compile(r"BENCH (\w+) (begin|end|done|sum \w+)")
MEMORY = 512  # MiB
TINY_KERNEL_TURNS = 21


def cpio(name, content):
    """An archive of one executable file, which the kernel unpacks after the initramfs that it is appended to."""
    def entry(path, mode, data):
        path = path.encode() + b"\0"
        fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0]
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        return header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
    return entry(name, 0o100755, content) + entry("TRAILER!!!", 0, b"")


def prepare(build, folder):
    """Make the guest: folder/vmlinuz, folder/initrd.img and, where the tools are, folder/guest.iso for Bochs."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "bench"
    subprocess.run(["gcc", "-O2", "-static", "-Wall", "-Werror", ROOT / "bench" / "guest.c", "-o", program], check=True)
    guest = build / "guest"
    shutil.copy(guest / "vmlinuz", folder / "vmlinuz")
    initrd = (guest / "initrd.img").read_bytes()
    initrd += bytes(-len(initrd) % 512) + cpio("bench", program.read_bytes())
    (folder / "initrd.img").write_bytes(initrd)

    isolinux = Path("/usr/lib/ISOLINUX/isolinux.bin")
    module = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    if not (isolinux.exists() and module.exists() and shutil.which("xorriso")):
        return
    tree = folder / "iso"
    tree.mkdir(exist_ok=True)
    for source in (isolinux, module, folder / "vmlinuz", folder / "initrd.img"):
        shutil.copy(source, tree)
    (tree / "isolinux.cfg").write_text(f"default linux\nprompt 0\ntimeout 0\nlabel linux\nkernel /vmlinuz\n"
                                       f"append initrd=/initrd.img {COMMAND_LINE}\n")
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", folder / "guest.iso", "-b", "isolinux.bin", "-c",
                    "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", tree], check=True,
                   stderr=subprocess.DEVNULL)


class Run:
    """One run of a guest: the times of its markers, from the start of the program."""

    def __init__(self, at_end):
        self.at_end = at_end  # called at the end of the last work, while the guest is still there; or None
        self.start = time.monotonic()
        self.times, self.sums = {}, {}
        self.finished = threading.Event()
        self.text = ""

    def take(self, line):
        """A line of the console has arrived."""
        now = time.monotonic() - self.start
        self.text += line
        if FIRST_LINE in line and "boot begin" not in self.times:
            self.times["boot begin"] = now
        match = MARKER.search(line)
        if not match:
            return
        name, what = match.groups()
        if what.startswith("sum"):
            self.sums[name] = what[4:]
        elif what == "done":
            self.finished.set()
        else:
            self.times[f"{name} {what}"] = now
            if self.at_end and (name, what) == (WORK[-1], "end"):
                self.at_end()

    def durations(self):
        return {name: self.times[f"{name} end"] - self.times[f"{name} begin"] for name in WORK}


def follow_pipe(run, stream):
    for line in stream:
        run.take(line.decode(errors="replace"))


def follow_file(run, path, process):
    """Read a growing file by lines until its process is gone."""
    rest = ""
    place = 0
    ended = False
    while not ended and not run.finished.is_set():
        ended = process.poll() is not None  # and read once more after that
        if path.exists():
            with open(path, "rb") as f:
                f.seek(place)
                part = f.read()
            place += len(part)
            *lines, rest = (rest + part.decode(errors="replace")).split("\n")
            for line in lines:
                run.take(line + "\n")
        time.sleep(0.002)


def measure(command, folder, limit, serial_file=None, at_end=None):
    """Run a guest until its last marker. Returns the Run; at_end(pid) is called at the end of the last work."""
    if serial_file and serial_file.exists():
        serial_file.unlink()
    run = Run(at_end and (lambda: at_end(process.pid)))
    with subprocess.Popen([str(word) for word in command], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        if serial_file:
            follower = threading.Thread(target=follow_file, args=(run, serial_file, process), daemon=True)
            drain = threading.Thread(target=process.stdout.read, daemon=True)
            drain.start()
        else:
            follower = threading.Thread(target=follow_pipe, args=(run, process.stdout), daemon=True)
        follower.start()
        end = time.monotonic() + limit
        while not run.finished.wait(0.2) and process.poll() is None and time.monotonic() < end:
            pass
        follower.join(1)
        process.kill()
    if not run.finished.is_set():
        print(f"{command[0]}: the guest did not come to its end; its console:\n{run.text[-2000:]}", file=sys.stderr)
        return None
    return run


def pss_beside_guest_ram(pid):
    """KiB of PSS of a process outside its memfds."""
    total = 0
    counted = True
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as f:
        for line in f:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                counted = "/memfd:" not in line
            elif counted and line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def bochs_command(folder):
    (folder / "bochsrc").write_text(f"""\
megs: {MEMORY}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path={folder}/guest.iso, status=inserted
boot: cdrom
display_library: rfb, options="timeout=0"
com1: enabled=1, mode=file, dev={folder}/bochs.serial
cpu: model=corei7_haswell_4770, ips=200000000
clock: sync=none
plugin_ctrl: speaker=0, gameport=0, parallel=0
sound: driver=dummy
log: {folder}/bochs.log
""")
    (folder / "bochs.commands").write_text("c\n")
    return ["bochs", "-q", "-f", folder / "bochsrc", "-rc", folder / "bochs.commands"]


def qemu_command(folder):
    return ["qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "max", "-m", MEMORY, "-nodefaults", "-display",
            "none", "-serial", "stdio", "-kernel", folder / "vmlinuz", "-initrd", folder / "initrd.img", "-append",
            COMMAND_LINE, "-no-reboot"]


def plastron_command(program, folder):
    return [program, "run", "--memory", f"{MEMORY}M", "--kernel", folder / "vmlinuz", "--initrd", folder / "initrd.img",
            "--append", COMMAND_LINE, "--no-reboot"]


def time_to_first_instruction(program, folder):
    """Milliseconds from start to end of a guest whose first instructions leave through the debug-exit port."""
    code = b"\x30\xc0\xe6\xf4\xf4"  # xor al, al; out 0xf4, al; hlt
    magic, flags, load = 0x1BADB002, 1 << 16, 0x100000
    end = load + 32 + len(code)
    kernel = folder / "tiny"
    kernel.write_bytes(struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, load, load, end, end, load + 32) +
                       code)
    times = []
    for _ in range(TINY_KERNEL_TURNS):
        start = time.monotonic()
        result = subprocess.run([program, "run", "--memory", f"{MEMORY}M", "--kernel", kernel, "--debug-exit", "--serial",
                                 "none"], stdin=subprocess.DEVNULL, check=False)
        times.append((time.monotonic() - start) * 1000)
        if result.returncode != 1:
            raise SystemExit(f"the tiny kernel ended with status {result.returncode}, not 1")
    return statistics.median(times)


def table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=["plastron", "bochs", "qemu"], help="repeatable")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one guest")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    folder = build / "bench"
    prepare(build, folder)

    program = build / "plastron"
    memory = []
    engines = {}
    if program.exists():
        engines["plastron"] = (plastron_command(program, folder), None,
                               lambda pid: memory.append(pss_beside_guest_ram(pid)))
    if shutil.which("bochs") and (folder / "guest.iso").exists():
        engines["bochs"] = (bochs_command(folder), folder / "bochs.serial", None)
    if shutil.which("qemu-system-x86_64"):
        engines["qemu"] = (qemu_command(folder), None, None)
    if arguments.only:
        engines = {name: engine for name, engine in engines.items() if name in arguments.only}
    if not engines:
        print("bench/run.py: nothing to measure: no build/plastron and no peer")
        return 1

    figures = {name: [] for name in engines}
    sums = {}
    for turn in range(arguments.rounds):
        for name, (command, serial_file, at_end) in engines.items():
            print(f"round {turn + 1} of {arguments.rounds}: {name}", flush=True)
            run = measure(command, folder, arguments.limit, serial_file, at_end)
            if run is None:
                return 1
            figures[name].append(run.durations())
            for work, value in run.sums.items():
                if sums.setdefault(work, value) != value:
                    print(f"{name}: {work} gave {value}, not {sums[work]} as before: a wrong result")
                    return 1

    medians = {name: {work: statistics.median(run[work] for run in runs) for work in WORK}
               for name, runs in figures.items()}
    peers = [name for name in engines if name != "plastron"]
    rows = [["seconds", *engines] + [f"plastron is x times {peer}" for peer in peers if "plastron" in engines]]
    ratios = {peer: {} for peer in peers if "plastron" in engines}
    for work in WORK:
        row = [work] + [f"{medians[name][work]:.3f}" for name in engines]
        for peer, of_peer in ratios.items():
            of_peer[work] = medians[peer][work] / medians["plastron"][work]
            row.append(f"{of_peer[work]:.2f}")
        rows.append(row)
    if ratios:
        rows.append(["geometric mean"] + [""] * len(engines) +
                    [f"{statistics.geometric_mean(of_peer.values()):.2f}" for of_peer in ratios.values()])
    print()
    table(rows)

    result = {"seconds": figures, "medians": medians, "speed_relative_to": ratios, "rounds": arguments.rounds,
              "host": {"cpus": os.cpu_count(), "machine": platform.machine(), "system": platform.platform()}}
    if "plastron" in engines:
        result["first_instruction_ms"] = time_to_first_instruction(program, folder)
        result["pss_beside_guest_ram_kib"] = statistics.median(memory)
        print(f"\nstart to the end of a guest of one instruction: {result['first_instruction_ms']:.1f} ms (aim: under 30)")
        print(f"memory of the program beside guest RAM (PSS): {result['pss_beside_guest_ram_kib'] / 1024:.1f} MiB "
              f"(aim: under 16)")
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nall figures: {folder / 'result.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
