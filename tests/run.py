#!/usr/bin/python3
"""Run the tests and count them honestly: the last line is `N passed, N failed[, N skipped]`, exit status 1 on failure.

`make check`, `make check-long` and .ci/run call this; CONTRIBUTING.md says how to run less. Every cmocka test, pytest
test, check script and fuzz target counts as one. What did not run to its end counts as failed; what was skipped is
counted with the reason printed. Logs of all of it are kept under BUILD/test-logs/.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOBS = os.cpu_count() or 1
TAP_PLAN = re.compile(r"^1\.\.(\d+)$")
TAP_RESULT = re.compile(r"(not ok|ok) (\d+) (?:- (.*)|# SKIP (.*))$")
EXIT_SKIPPED = 77  # the convention of Meson and automake
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": f"halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT / 'tests/tsan.supp'}",
}
# The test kernels run with each clock; the short form of the sanitized runs has one of them.
LONG_ONLY = re.compile(r"guest/.*-icount$")
# Instructions against the CPU and sequences engine against engine: percent of the usual number.
CASES_SANITIZED = {"PLASTRON_CASES": "5"}
CASES_LONG = {"PLASTRON_CASES": "1000"}
# ThreadSanitizer is for code that several threads run: the layers with locks.
TSAN_SUITES = ("base/", "machine/", "dev/", "host/", "api/", "control/")
# ... and the interpreter, on two threads.
TSAN_SUITES_LONG = (*TSAN_SUITES, "guest/parallel-host-interp")


class Report:
    """Counts, and a line for each thing that ran."""

    def __init__(self, log_folder):
        self.passed = self.failed = self.skipped = 0
        self.failures = []
        self.log_folder = log_folder
        self.lock = threading.Lock()
        log_folder.mkdir(parents=True, exist_ok=True)

    def add(self, name, passed, failed, skipped=(), output="", seconds=0.0):
        """Count a program's tests; skipped is a list of reasons, output is shown when something failed."""
        log = self.log_folder / (re.sub(r"[^\w.-]+", "-", name) + ".log")
        log.write_text(output)
        with self.lock:
            self.passed += passed
            self.failed += failed
            self.skipped += len(skipped)
            words = [f"{passed} passed"] + [f"{failed} FAILED"] * bool(failed) + [f"{len(skipped)} skipped"] * bool(skipped)
            print(f"  {name}: {', '.join(words)} ({seconds:.1f} s)", flush=True)
            for reason in skipped:
                print(f"    skipped: {reason}")
            if failed:
                self.failures.append(name)
                lines = output.splitlines()
                if len(lines) > 80:
                    print(f"    ... {len(lines) - 80} lines more in {log}")
                for line in lines[-80:]:
                    print(f"    | {line}")
            sys.stdout.flush()

    def summary(self):
        if self.failures:
            print("failed: " + ", ".join(self.failures))
        line = f"{self.passed} passed, {self.failed} failed"
        if self.skipped:
            line += f", {self.skipped} skipped"
        print(line, flush=True)
        return 1 if self.failed or not self.passed else 0


def run(command, timeout=None, env=None, cwd=ROOT):
    """Run a command without input. Returns (exit status, output); a timeout is status None."""
    with subprocess.Popen([str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=dict(os.environ, **(env or {})), start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            output += f"\n(killed: it did not end within {timeout:.0f} s)\n".encode()
            status = None
    return status, output.decode(errors="replace")


def one_check(report, name, command, timeout=600, env=None):
    """Run a command that is one test: passed when it exits with 0."""
    start = time.monotonic()
    status, output = run(command, timeout, env)
    report.add(name, int(status == 0), int(status != 0), output=output, seconds=time.monotonic() - start)


def prepare(report, name, command, timeout=1800):
    """Run a command that tests need: nothing to count when it works, one failure when it does not."""
    print(f"  {name} ...", flush=True)
    start = time.monotonic()
    status, output = run(command, timeout)
    if status != 0:
        report.add(name, 0, 1, output=output, seconds=time.monotonic() - start)
    return status == 0


def count_tap(status, output):
    """(passed, failed, skip reasons) of a cmocka program that ran with TAP output; others count as one test."""
    planned = passed = failed = 0
    skipped = []
    for line in output.splitlines():
        plan = TAP_PLAN.match(line)
        result = TAP_RESULT.search(line)
        if plan:
            planned += int(plan[1])
        elif result and result[4] is not None:
            skipped.append(result[4])
        elif result and result[1] == "ok":
            passed += 1
        elif result:
            failed += 1
    if not planned:
        if status == EXIT_SKIPPED:
            return 0, 0, [output.strip().splitlines()[-1] if output.strip() else "no reason given"]
        return int(status == 0), int(status != 0), []
    failed += max(0, planned - passed - failed - len(skipped))
    if status != 0 and not failed:
        failed = 1
    return passed, failed, skipped


def unit_tests(report, build, label, env=None, only=None, without=None, slow=1):
    """Build and run the Meson tests of a build folder: those whose name starts with one of `only`, if given, and does not
    match `without`."""
    files = {target["id"]: target["filename"] for target in json.loads(run(["meson", "introspect", "--targets", build])[1])}
    tests = json.loads(run(["meson", "introspect", "--tests", build])[1])
    tests = [test for test in tests
             if (not only or test["name"].startswith(only)) and not (without and without.match(test["name"]))]
    if not tests:
        report.add(label, 0, 1, output=f"{build}: no unit tests")
        return
    # The test programs, and what a script is given to work on: the program, test kernels.
    needed = {os.path.relpath(name, build) for test in tests for target in test["depends"] for name in files[target]}
    if not prepare(report, f"{label} build", ["ninja", "-C", build] + sorted(needed)):
        return

    def run_one(test):
        start = time.monotonic()
        environment = {"CMOCKA_MESSAGE_OUTPUT": "TAP", "PLASTRON_SLOW": str(slow), **(test["env"] or {}), **(env or {})}
        status, output = run(test["cmd"], (test["timeout"] or 30) * 4 * slow, environment, test["workdir"] or build)
        passed, failed, skipped = count_tap(status, output)
        if failed and status is not None and status < 0:
            output += f"\n(killed by signal {-status})\n"
        report.add(f"{label} {test['name']}", passed, failed, [f"{test['name']}: {reason}" for reason in skipped], output,
                   time.monotonic() - start)

    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(run_one, tests))


def pytest_tests(report, name, folder, jobs=1, env=None, words=(), timeout=3600):
    """Run the pytest tests of a folder and count them from its own report."""
    start = time.monotonic()
    results = report.log_folder / f"{name}.xml"
    results.unlink(missing_ok=True)
    command = ["/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", f"--junitxml={results}", folder]
    if jobs > 1:
        command += ["-n", jobs]
    status, output = run(command + list(words), timeout, env)
    passed = failed = 0
    skipped = []
    try:
        cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        cases = []
    for case in cases:
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif skip is not None:
            skipped.append(f"{case.get('name')}: {skip.get('message')}")
        else:
            passed += 1
    if (status != 0 and not failed) or not cases:
        failed += 1  # a collection error, a crash, no test at all
    report.add(name, passed, failed, skipped, output, time.monotonic() - start)


def static_checks(report, build):
    sources = run(["git", "ls-files", "-co", "--exclude-standard", "*.c", "*.h"])[1].split()
    sources = [name for name in sources if (ROOT / name).exists()]
    one_check(report, "check layers", ["tools/check-layers.py"])
    one_check(report, "check state", ["tools/check-state.py"])
    one_check(report, "check format", ["clang-format", "--dry-run", "-Werror"] + sources)
    cache = Path(build) / "cppcheck"
    cache.mkdir(exist_ok=True)
    one_check(report, "check cppcheck", [
        "cppcheck", "-j", JOBS, "--quiet", "--error-exitcode=1", "--std=c11", "--enable=warning,performance,portability",
        "--inline-suppr", "--suppressions-list=tools/cppcheck.suppressions", f"--cppcheck-build-dir={cache}",
        "-Isrc", "-Iinclude", f"-I{build}/src", "src"])


def fuzz(report, asan, mode, amount):
    """mode: "runs" (a fixed number from a fixed seed: the same every time) or "seconds"."""
    targets = sorted(path.stem for path in (ROOT / "fuzz").glob("fuzz_*.c"))
    if not targets or not prepare(report, "fuzz build", ["ninja", "-C", asan, "fuzzers"]):
        return

    def fuzz_one(name):
        one_check(report, f"fuzz {name}", ["fuzz/run.py", "--build", asan, f"--{mode}", amount, name], timeout=7200,
                  env=SANITIZER_ENV)

    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(fuzz_one, targets))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    parser.add_argument("--asan", type=Path, default=ROOT / "build-asan", help="clang, ASan, UBSan and the fuzzers")
    parser.add_argument("--tsan", type=Path, default=ROOT / "build-tsan")
    parser.add_argument("--level", choices=["check", "short-long", "long"], default="check")
    parser.add_argument("--only", action="append", choices=["unit", "tools", "static", "fuzz", "e2e"],
                        help="only these parts (repeatable)")
    parser.add_argument("words", nargs="*", help="further words for pytest, after --")
    arguments = parser.parse_args()
    build, asan, tsan = arguments.build.resolve(), arguments.asan.resolve(), arguments.tsan.resolve()
    report = Report(build / "test-logs" / arguments.level)
    parts = arguments.only or ["unit", "tools", "static", "fuzz", "e2e"]

    def end_to_end(plastron, slow, name="e2e", marks="not long", guests=("small", "i386", "disk")):
        if (prepare(report, "guests", ["tools/guest/make-guest.sh", build / "guest", *guests]) and
                prepare(report, "program", ["ninja", "-C", plastron.parent, plastron.name])):
            pytest_tests(report, name, "tests/e2e", JOBS, words=["-m", marks, *arguments.words], timeout=7200, env={
                "PLASTRON": str(plastron), "PLASTRON_GUEST": str(build / "guest"), "PLASTRON_SLOW": str(slow),
                **SANITIZER_ENV})

    if arguments.level == "check":
        if "unit" in parts:
            unit_tests(report, build, "unit")
        if "tools" in parts:
            pytest_tests(report, "tools", "tests/tools")
        if "static" in parts:
            static_checks(report, build)
        if "fuzz" in parts:
            fuzz(report, asan, "runs", 20000)
        if "e2e" in parts:
            end_to_end(build / "plastron", 1)
    else:
        long = arguments.level == "long"
        if "unit" in parts:
            if long:
                unit_tests(report, build, "long", CASES_LONG, only=("insn/", "seq/"), slow=10)
            unit_tests(report, asan, "asan", {**SANITIZER_ENV, **CASES_SANITIZED}, without=None if long else LONG_ONLY,
                       slow=10)
            unit_tests(report, tsan, "tsan", SANITIZER_ENV, only=TSAN_SUITES_LONG if long else TSAN_SUITES, slow=10)
        if "fuzz" in parts:
            fuzz(report, asan, "seconds", 300 if long else 15)
        if "e2e" in parts and long:
            end_to_end(asan / "plastron", 10)
            end_to_end(build / "plastron", 1, "long", "long", ("small", "i386", "disk", "selftests", "luajit"))
    return report.summary()


if __name__ == "__main__":
    sys.exit(main())
