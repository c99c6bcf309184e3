#!/usr/bin/python3
"""Measure Plastron beside QEMU TCG, the host itself and, if asked, Bochs, in one run: `make bench`. See bench/README.md.

The same image runs under each peer in turn, several rounds; the host's clock stamps the marker lines of the serial console
as they arrive. The table shows medians and ratios; every figure is in the JSON file.
"""
import argparse
import datetime
import json
import os
import platform
import re
import resource
import shlex
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import figures
import peers as kinds

ROOT = Path(__file__).resolve().parent.parent
TINY_KERNEL_TURNS = 21
TICK = os.sysconf("SC_CLK_TCK")
QUICK = ["py-object", "crc32", "matrix", "getppid"]


@dataclass
class Image:
    """What make-guest.sh made."""
    kernel: Path
    initrd: Path
    disk: Path
    tree: Path
    ide: Path

    @classmethod
    def in_folder(cls, guest):
        image = cls(guest / "vmlinuz", guest / "initrd.img", guest / "bench" / "root.img", guest / "bench" / "root",
                    guest / "bench" / "ide.cpio")
        for path in vars(image).values():
            if not path.exists():
                raise SystemExit(f"bench/run.py: no {path}: run `make bench`, or tools/guest/make-guest.sh {guest} small bench")
        return image


def cpu_seconds(pid):
    """What a process and its ended children have used, user and system."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICK


def cpu_seconds_of_ended():
    """What all children that were waited for have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


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


def kill_group(pid):
    """Kill a peer and what it started: natively the entries are processes of their own, which hold the pipe open."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def serial_lines(peer, process):
    """The lines of the guest's console: on standard output, or through the FIFO that the peer opens."""
    if not peer.serial:
        return process.stdout

    # Our own writer makes that opening waits for nobody; when the peer has ended and it is closed, reading comes to the end.
    reader = os.open(peer.serial, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(peer.serial, os.O_WRONLY)
    os.set_blocking(reader, True)

    def close_at_the_end():
        process.wait()
        os.close(writer)

    threading.Thread(target=close_at_the_end, daemon=True).start()
    return open(reader, "rb")


def measure(peer, append, cpus, limit, environment=None, at_end=None):
    """Run a guest to its power-off. Returns its markers, and the seconds and the CPU seconds from start to end;
    at_end(pid, entry) is called at the end of each entry and at "init", while the guest is still there."""
    markers = figures.Markers()
    command = [str(word) for word in peer.command(append, cpus)]
    text = []
    start, cpu_start = time.monotonic(), cpu_seconds_of_ended()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True,
                          stdout=subprocess.DEVNULL if peer.serial else subprocess.PIPE,
                          env={**os.environ, **(environment or {})}) as process:
        late = threading.Timer(limit, kill_group, [process.pid])
        late.start()
        try:
            for line in serial_lines(peer, process):
                now, cpu = time.monotonic() - start, cpu_seconds(process.pid)
                line = line.decode(errors="replace")
                text.append(line)
                ended = markers.take(line, now, cpu)
                if ended and at_end:
                    at_end(process.pid, ended)
                if markers.done and peer.stays:
                    break
            if not peer.stays:
                process.wait()
        finally:
            late.cancel()
            if process.poll() is None:
                kill_group(process.pid)
    total = time.monotonic() - start, cpu_seconds_of_ended() - cpu_start
    if not markers.done:
        markers.failures.append("the guest did not come to its end; the end of its console:\n" + "".join(text[-20:]))
    return markers, *total


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
        result = subprocess.run([program, "run", "--memory", "512M", "--kernel", kernel, "--debug-exit", "--serial",
                                 "none"], stdin=subprocess.DEVNULL, check=False)
        times.append((time.monotonic() - start) * 1000)
        if result.returncode != 1:
            raise SystemExit(f"the tiny kernel ended with status {result.returncode}, not 1")
    return statistics.median(times)


class Bench:
    """The peers that are there, and the runs of all of them."""

    def __init__(self, arguments, image, folder):
        self.arguments, self.image, self.folder = arguments, image, folder
        self.peers = {}
        self.own = []
        self.skipped = {}
        self.memory = {}
        self.features = None
        program = (arguments.build / "plastron").resolve()
        makers = {engine: lambda engine=engine: kinds.Plastron(engine, program, image, []) for engine in arguments.engines}
        for name, words in arguments.variants:
            other = Path(words.pop(0)).resolve() if words and not words[0].startswith("-") else program
            makers[name] = lambda other=other, words=words: kinds.Plastron(arguments.engines[0], other, image, words)
        makers["qemu"] = lambda: kinds.Qemu(image)
        makers["native"] = lambda: kinds.Native(image)
        if arguments.bochs:
            makers["bochs"] = lambda: kinds.Bochs(image, folder)
        for name, make in makers.items():
            if name in ("qemu", "native") and name not in arguments.peers:
                continue
            try:
                self.peers[name] = make()
                if isinstance(self.peers[name], kinds.Plastron):
                    self.own.append(name)
            except kinds.Unavailable as reason:
                self.skipped[name] = str(reason)
                print(f"{name} is left out: {reason}", flush=True)

    def runs(self, results, names, rounds, cpus=1, copies=1, boot=True):
        """Rounds over all peers in turn."""
        only = f"bench.only={','.join(names)}"
        for turn in range(rounds):
            for name, peer in self.peers.items():
                if peer.once and turn:
                    continue
                print(f"round {turn + 1} of {rounds}: {name}", end="", flush=True)
                start = time.monotonic()
                if boot and name != "native":
                    self.boot(results, name, peer)
                if names:
                    self.work(results, name, peer, f"{only} bench.copies={copies}" if copies > 1 else only, names[-1], cpus)
                print(f" ({time.monotonic() - start:.0f} s)", flush=True)

    def boot(self, results, name, peer):
        """A guest with nothing to do."""
        markers, seconds, cpu = measure(peer, "bench.only=none", 1, self.arguments.limit)
        if markers.done and markers.init:
            markers.seconds["boot-init"], markers.cpu_seconds["boot-init"] = markers.init
            if not peer.stays:
                markers.seconds["boot-off"], markers.cpu_seconds["boot-off"] = seconds, cpu
        results.add(name, markers)

    def work(self, results, name, peer, append, last, cpus):
        environment = None
        if name == "native":
            environment = kinds.limits(kinds.host_features(), self.features or kinds.host_features())

        counters = {}

        def at_end(pid, entry):
            if self.arguments.counters and name in self.own:
                before, counters["now"] = counters.get("now", {}), figures.flatten(peer.counters())
                if entry != "init":
                    results.entries[entry].setdefault("counters", {})[name] = figures.counted(before, counters["now"])
            if entry == last and name in self.own:
                self.memory.setdefault(name, []).append(pss_beside_guest_ram(pid))

        markers, _, _ = measure(peer, append, cpus, self.arguments.limit * (20 if peer.once else 1), environment, at_end)
        if markers.features and self.features is None:
            self.features = markers.features
        results.add(name, markers)


def variant(text):
    """The argument of --variant: a name, and words."""
    name, equals, words = text.partition("=")
    if not equals or not re.fullmatch(r"[\w.-]+", name) or name in ("qemu", "native", "bochs"):
        raise argparse.ArgumentTypeError("NAME=WORDS, and not the name of a peer")
    return name, shlex.split(words)


def host():
    model = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.M)
    return {"cpus": os.cpu_count(), "model": model[1] if model else platform.machine(), "system": platform.platform(),
            "load": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_argument_group("what to run")
    names.add_argument("--only", type=lambda text: text.split(","), help="entries, with commas; boot is one")
    names.add_argument("--rounds", type=int, default=5)
    names.add_argument("--quick", action="store_true", help=f"one round of boot, {', '.join(QUICK)}")
    names.add_argument("--cpus", type=int, default=1, metavar="N",
                       help="measure scaling: N copies of integer, python and sqlite loads on N vCPUs against one on one")
    peers = parser.add_argument_group("peers")
    peers.add_argument("--engines", type=lambda text: text.split(","), default=["jit"], help="Plastron's (default jit)")
    peers.add_argument("--peers", type=lambda text: text.split(","), default=["qemu", "native"],
                       help="beside Plastron (default qemu,native; - for none)")
    peers.add_argument("--bochs", action="store_true", help="Bochs too, once (minutes)")
    peers.add_argument("--variant", dest="variants", action="append", type=variant, default=[], metavar="NAME=WORDS",
                       help="Plastron once more: with these options of `plastron run`, with another program if the first "
                            "word is a path, or both; repeatable")
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--cpu-time", action="store_true",
                        help="show CPU seconds of the peers' processes (the file has both): for a machine that is not idle")
    parser.add_argument("--counters", action="store_true",
                        help="ask `plastron info VM jit` after each entry; shows some, the file has all of the last round")
    parser.add_argument("--json", type=Path, help="default: BUILD/bench.json")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one guest")
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    image = Image.in_folder(build / "guest")
    folder = build / "bench"
    folder.mkdir(parents=True, exist_ok=True)

    classes = figures.read_entries((ROOT / "bench" / "guest" / "entries").read_text())
    wanted = figures.SCALING if arguments.cpus > 1 else QUICK + ["boot"] if arguments.quick else [*classes, "boot"]
    if arguments.only:
        unknown = set(arguments.only) - set(classes) - {"boot"}
        if unknown:
            parser.error(f"no entry {', '.join(sorted(unknown))}; there are boot, {', '.join(classes)}")
        wanted = arguments.only
    if set(arguments.peers) - {"qemu", "native", "-"}:
        parser.error("--peers: qemu, native, or -")
    rounds = 1 if arguments.quick else arguments.rounds
    names = [name for name in classes if name in wanted]
    boot = "boot" in wanted and arguments.cpus == 1
    entries = {**{name: classes[name] for name in names}, **(figures.BOOT if boot else {})}

    bench = Bench(arguments, image, folder)
    if not bench.peers:
        print("bench/run.py: nothing to measure")
        return 1
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"This machine is not idle (load {load:.1f}): the clock says little. --cpu-time is better, the scaling mode useless.")
    with open(image.disk, "rb") as disk:  # into the host's page cache, for the first peer as for the last
        while disk.read(1 << 24):
            pass
    results = figures.Results(entries)
    stored = {"format": 1, "date": datetime.datetime.now().isoformat(timespec="seconds"), "host": host(), "rounds": rounds,
              "peers": {name: [str(word) for word in peer.command("", 1)] for name, peer in bench.peers.items()},
              "left_out": bench.skipped}
    if arguments.cpus > 1:
        bench.peers.pop("bochs", None)
        many = figures.Results(entries)
        for turn in range(rounds):
            bench.runs(results, names, 1, boot=False)
            bench.runs(many, names, 1, arguments.cpus, arguments.cpus, boot=False)
        results.compare_sums()
        many.compare_sums()
        rows, ratios = figures.scaling_rows(results, many, list(bench.peers), arguments.cpus)
        stored.update(scaling={"cpus": arguments.cpus, "one": results.entries, "many": many.entries, "ratios": ratios})
        results.failures += many.failures
        print("\n" + figures.layout(rows))
    else:
        bench.runs(results, names, rounds, boot=boot)
        results.compare_sums()
        stored.update(entries=results.entries, **figures.summary(results, list(bench.peers), bench.own))
        of = "cpu_seconds" if arguments.cpu_time else "seconds"
        print("\n" + figures.layout(figures.rows_of(results, list(bench.peers), bench.own, of)))
        for name in bench.own if arguments.counters else []:
            print("\n" + figures.layout(figures.counter_rows(results, name)))
        print(f"\nBy class and over all: geometric means; in that of all against QEMU an entry counts at {figures.CAP} at most.")
        if bench.own:
            stored["first_instruction_ms"] = time_to_first_instruction(bench.peers[bench.own[0]].program, folder)
            stored["pss_beside_guest_ram_kib"] = {name: statistics.median(sizes) for name, sizes in bench.memory.items()}
            print(f"Start to the end of a guest of one instruction: {stored['first_instruction_ms']:.1f} ms (aim: under 30).")
            for name, size in stored["pss_beside_guest_ram_kib"].items():
                print(f"Memory of the program beside guest RAM (PSS), {name}: {size / 1024:.1f} MiB.")
    stored["failures"] = results.failures
    for failure in results.failures:
        print(f"FAILED: {failure}")
    path = arguments.json or build / "bench.json"
    path.write_text(json.dumps(stored, indent=2) + "\n")
    print(f"All figures: {path}")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
