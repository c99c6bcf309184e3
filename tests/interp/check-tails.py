#!/usr/bin/env python3
"""Check that handlers of the interpreter end in jumps: a call there grows the host's stack with every guest instruction.

    check-tails.py LIBRARY

A handler jumps to the next cell's function (at offset 32 of its own cell), interp_end_taken, interp_end_fall,
interp_end_indirect or interp_end_far. interp_end_loop returns, and may be called; step executes one instruction for the loop; other
indirect calls are those of stubs, and those of the second tier's table, which look like a cell's.
"""
import re
import subprocess
import sys

CODE = re.compile(r"\s+[0-9a-f]+:\s+(call|jmp)\s+(.*)")
CELL = re.compile(r"\*(0x20)?\(%r..?\)$")
END = re.compile(r"interp_end_(taken|fall|indirect|far)\b")
SYMBOL = re.compile(r"<([\w.]+)>$|R_X86_64_PLT32\s+([\w.]+)-0x4")


NO_HANDLERS = {"step", "drop_entries", "tell_tier", "space_enter", "interp_tlb_flush", "interp_tlb_drop_local",
               "interp_tlb_cr3", "interp_tlb_flush_page", "interp_tlb_protect", "block_kill", "cache_flush", "block_lookup"}


def main():
    text = subprocess.run(["objdump", "-dr", "--no-show-raw-insn", sys.argv[1]], capture_output=True, text=True, check=True)
    function, goes_on, calls, last = None, set(), [], None
    for line in text.stdout.splitlines():
        if line.endswith(">:"):
            function, last = line[line.index("<") + 1:-2], None
            continue
        code = CODE.match(line)
        if code or (last and "R_X86_64_PLT32" in line):
            if code:
                last, target = code[1], code[2]
            else:
                target = line.strip()
            if CELL.match(target) or END.search(target):
                goes_on.add(function)
            symbol = SYMBOL.search(target)
            if last == "call" and (CELL.match(target) or symbol):
                calls.append((function, (symbol[1] or symbol[2]) if symbol else "the next cell"))
        if not code:
            last = None
    wrong = sorted({(name, to) for name, to in calls
                    if name in goes_on and name.split(".")[0] not in NO_HANDLERS and (to == "the next cell" or to in goes_on or END.fullmatch(to))})
    for name, to in wrong:
        print(f"{name} calls {to}")
    print(f"{len(goes_on)} handlers, {len(wrong)} calls that have to be jumps")
    return 1 if wrong or not goes_on else 0


if __name__ == "__main__":
    sys.exit(main())
