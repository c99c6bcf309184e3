#!/usr/bin/python3
"""Build the fuzz targets and run each for a fixed number of runs, or for a time.

    fuzz/run.py --build build-asan --runs 20000          the same runs every time (make check)
    fuzz/run.py --build build-asan --seconds 60 [NAME]   as long as that (make fuzz); new inputs are kept in the corpus

Seeds are fuzz/corpus/NAME; inputs found in timed runs go to BUILD/fuzz-corpus/NAME, an input that fails to
BUILD/fuzz-failures/. Copy such an input into fuzz/corpus/NAME with the fix.
"""
import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build-asan")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--runs", type=int)
    length.add_argument("--seconds", type=int)
    parser.add_argument("names", nargs="*", metavar="NAME", help="fuzz_THING; default: all")
    arguments = parser.parse_args()
    build = arguments.build.resolve()

    names = arguments.names or sorted(path.stem for path in (ROOT / "fuzz").glob("fuzz_*.c"))
    if not names:
        print("fuzz/run.py: there are no fuzz targets")
        return 1
    subprocess.run(["ninja", "-C", build, "--quiet"] + [f"fuzz/{name}" for name in names], check=True)
    failures = build / "fuzz-failures"
    failures.mkdir(exist_ok=True)
    status = 0
    for name in names:
        found = build / "fuzz-corpus" / name
        found.mkdir(parents=True, exist_ok=True)
        command = [str(build / "fuzz" / name), "-max_len=65536", "-timeout=20", "-rss_limit_mb=2048",
                   f"-artifact_prefix={failures}/{name}-", "-print_final_stats=1", "-verbosity=0"]
        seeds = ROOT / "fuzz" / "corpus" / name
        folders = [str(seeds)] if seeds.is_dir() else []
        if arguments.runs:
            # No folder to write to: every run starts from the seeds alone, and so is the same, but for how far a slow
            # target comes.
            command += [f"-runs={arguments.runs}", "-seed=1", "-max_total_time=20"]
            if folders:
                scratch = build / "fuzz-scratch" / name
                scratch.mkdir(parents=True, exist_ok=True)
                for old in scratch.iterdir():
                    old.unlink()
                folders.insert(0, str(scratch))
        else:
            command += [f"-max_total_time={arguments.seconds}"]
            folders.insert(0, str(found))
        result = subprocess.run(command + folders, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                stdin=subprocess.DEVNULL, env=dict(os.environ))
        text = result.stdout.decode(errors="replace")
        if result.returncode == 0:
            runs = [line.split()[-1] for line in text.splitlines() if line.startswith("stat::number_of_executed_units")]
            print(f"{name}: {runs[0] if runs else '?'} runs, nothing found", flush=True)
        else:
            print(f"{name}: FAILED\n{text}", flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
