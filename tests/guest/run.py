#!/usr/bin/python3
"""Run a test kernel of guest/ and report each of its groups as one test (TAP).

    tests/guest/run.py [--peer NAME] [--expect reset] KERNEL [WORD...]

WORDs go to `plastron run`. A peer runs the same kernel, to see whether the test or the program is wrong: bochs (from
KERNEL.rom; the closest to the manual), qemu (TCG: has no segment limits, among others) or kvm. The kernel says "ok GROUP:
N cases", "not ok GROUP: M of N cases failed" or "skip GROUP: reason", and at the end "N passed, N failed".
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GROUP = re.compile(r"^(ok|not ok|skip) (.*)$")
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed")
EXIT_PASSED, EXIT_FAILED = 1, 3  # of the debug-exit device, with 0 and 1
EXIT_CRASHED = 2  # plastron: triple fault under --no-reboot
TIMEOUT = 120 * float(os.environ.get("PLASTRON_SLOW", "1"))

BOCHS = """\
megs: 64
romimage: file={rom}
display_library: rfb, options="timeout=0"
port_e9_hack: enabled=1
cpu: model=corei7_skylake_x, ips=200000000, reset_on_triple_fault=0, count={cpus}
clock: sync=none
plugin_ctrl: speaker=0, gameport=0, parallel=0
sound: driver=dummy
log: {folder}/log
com1: enabled=1, mode=file, dev={folder}/console
panic: action=fatal
"""


def command(arguments, folder):
    """The command that runs the kernel, and the file that its console goes to."""
    kernel, cpus = arguments.kernel, 1
    if "--cpus" in arguments.words:
        cpus = arguments.words[arguments.words.index("--cpus") + 1]
    console = folder / "console"
    if arguments.peer == "bochs":
        rom = kernel if kernel.suffix == ".rom" else kernel.with_name(kernel.name + ".rom")
        (folder / "rc").write_text(BOCHS.format(rom=rom.resolve(), folder=folder, cpus=cpus))
        (folder / "commands").write_text("c\n")
        return ["bochs", "-q", "-f", folder / "rc", "-rc", folder / "commands"], console
    if arguments.peer:
        accelerator = ["kvm", "-cpu", "host"] if arguments.peer == "kvm" else ["tcg,thread=single", "-cpu", "max"]
        start = ["-bios", kernel] if kernel.suffix == ".rom" else ["-kernel", kernel]
        return ["qemu-system-x86_64", "-accel", *accelerator, "-m", "64", "-smp", str(cpus), "-nodefaults", "-display",
                "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-debugcon", f"file:{console}",
                *start], console
    program = Path(os.environ.get("PLASTRON", ROOT / "build" / "plastron"))
    start = "--firmware" if kernel.suffix == ".rom" else "--kernel"
    return [program, "run", start, kernel, "--engine", "interp", "--memory", "64M", "--debug-exit", "--no-reboot", "--serial",
            "none", "--debugcon", console, *arguments.words], console


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=["bochs", "qemu", "kvm"])
    parser.add_argument("--expect", choices=["reset"], help="the kernel ends by a triple fault after its last line")
    parser.add_argument("kernel", type=Path)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        words, console = command(arguments, Path(name))
        environment = dict(os.environ, XDG_RUNTIME_DIR=name)
        try:
            result = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, timeout=TIMEOUT, check=False, env=environment)
            status, output = result.returncode, result.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as stopped:
            status, output = None, (stopped.stdout or b"").decode(errors="replace")
        lines = console.read_text(errors="replace").replace("\r", "").splitlines() if console.exists() else []
    return report(arguments, status, output, lines)


def report(arguments, status, output, lines):
    """Print TAP; returns the exit status."""
    groups = [match for match in map(GROUP.match, lines) if match]
    summary = next(filter(None, map(SUMMARY.match, reversed(lines))), None)
    problem = None
    if status is None:
        problem = f"did not end within {TIMEOUT:.0f} s"
    elif not summary:
        problem = f"no summary, status {status}"
    elif arguments.expect == "reset":
        if not arguments.peer and status != EXIT_CRASHED:
            problem = f"status {status}, not that of a triple fault ({EXIT_CRASHED})"
    elif arguments.peer != "bochs" and status != (EXIT_FAILED if int(summary[2]) else EXIT_PASSED):
        problem = f"status {status} with '{summary[0]}'"
    for line in lines:
        if not GROUP.match(line):
            print("#", line)
    print(f"1..{len(groups) + 1}")
    for number, (result, text) in enumerate((match.groups() for match in groups), 1):
        if result == "skip":
            print(f"ok {number} # SKIP {text}")
        else:
            print(f"{result} {number} - {text}")
    if problem:
        for line in output.splitlines()[-40:]:
            if "PLUGIN" not in line and "lt_dlhandle" not in line:  # Bochs
                print("#", line)
    failed = problem or any(match[1] == "not ok" for match in groups)
    print(f"{'not ok' if problem else 'ok'} {len(groups) + 1} - end{': ' + problem if problem else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
