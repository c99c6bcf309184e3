#!/usr/bin/python3
"""Check that every file under src/ includes only from rungs below it (ARCHITECTURE.md, "Layers").

    tools/check-layers.py [ROOT]      ROOT: the repository, by default the one this file is in

Prints one line for each forbidden include and exits with 1 if there is any.
"""
import re
import sys
from pathlib import Path

# Layer -> the layers it may include from, beside itself. A path belongs to the layer with the longest matching prefix.
# Siblings (the engines, dev, firmware) are not in one another's sets; nor is one engine in another's.
BASE = {"base"}
FACTS = BASE | {"x86", "state", "host"}
MACHINE = FACTS | {"machine"}
DRIVERS = MACHINE | {"engine/interp", "engine/jit", "engine/direct", "engine/kvm", "dev", "firmware"}
BOARD = DRIVERS | {"board"}
MAY_INCLUDE = {
    "base": set(),
    "x86": BASE | {"state"},  # vcpu_state has a state table
    "state": BASE,
    "host": BASE,
    "machine": FACTS,
    "engine/interp": MACHINE,
    "engine/jit": MACHINE | {"engine/interp"},
    "engine/direct": MACHINE,
    "engine/kvm": MACHINE,
    "dev": MACHINE,
    "firmware": MACHINE,
    "board": DRIVERS,
    # These drive machine and state; only the board names concrete devices and engines.
    "snapshot": MACHINE,
    "replay": MACHINE | {"snapshot"},
    "migrate": MACHINE | {"snapshot"},
    "api": MACHINE | {"board", "snapshot", "replay", "migrate", "include/plastron"},
    # The command line is a client of the public API.
    "control": BASE | {"include/plastron"},
    "include/plastron": set(),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path):
    """The layer of a path relative to src/ (or starting with include/plastron/), or None."""
    parts = path.split("/")
    for length in range(len(parts) - 1, 0, -1):
        name = "/".join(parts[:length])
        if name in MAY_INCLUDE:
            return name
    return None


def resolve(root, source, name):
    """The path, relative to src/, of an included file of ours. A file that exists nowhere is one that the build
    generates: its name is its path, or it lies beside its source."""
    if name.startswith("plastron/"):
        return "include/" + name
    for candidate in (source.parent / name, root / "src" / name):
        if candidate.is_file():
            candidate = candidate.resolve()
            return candidate.relative_to(root / "src").as_posix() if candidate.is_relative_to(root / "src") else name
    return name if "/" in name else (source.parent / name).relative_to(root / "src").as_posix()


def check(root):
    """All violations under root, as lines of text."""
    root = root.resolve()
    problems = []
    sources = [(path, path.relative_to(root / "src").as_posix()) for path in sorted((root / "src").rglob("*"))]
    sources += [(path, path.relative_to(root).as_posix()) for path in sorted((root / "include").rglob("*"))]
    for path, relative in sources:
        if path.suffix not in (".c", ".h", ".inc", ".def"):
            continue
        where = path.relative_to(root).as_posix()
        own = layer_of(relative)
        if own is None:
            problems.append(f"{where}: is in no known layer (tools/check-layers.py lists them)")
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match or (match[1] == "<" and not match[2].startswith("plastron/")):
                continue
            target = resolve(root, path, match[2])
            other = layer_of(target)
            if other != own and other not in MAY_INCLUDE[own]:
                problems.append(f"{where}:{number}: {own} may not include {other or 'what is in no layer'} ({match[2]})")
    return problems


def main(arguments):
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    problems = check(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
