"""tests/run.py counts what happened, above all what went wrong."""
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("run", ROOT / "tests" / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


@pytest.mark.parametrize("status, output, expected", [
    (0, "1..2\nok 1 - a\nok 2 - b\n# ok - group\n", (2, 0, 0)),
    (1, "1..2\nok 1 - a\nnot ok 2 - b\n# 0x1 != 0x2\n# not ok - group\n", (1, 1, 0)),
    (0, "1..2\nok 1 - a\nnot ok 2 # SKIP b\n", (1, 0, 1)),
    # Text without an end of line before the result.
    (0, "1..1\nnoise ok 1 - a\n", (1, 0, 0)),
    # It died in the second of three tests: two did not pass.
    (-6, "1..3\nok 1 - a\n", (1, 2, 0)),
    # Two groups, the second died.
    (-11, "1..1\nok 1 - a\n# ok - first\n1..4\nok 1 - b\n", (2, 3, 0)),
    # The set-up of the group failed, and no test ran.
    (2, "1..2\nnot ok 0 - group [  FAILED  ] GROUP SETUP\n", (0, 2, 0)),
    # All passed, and then the leak sanitizer spoke.
    (23, "1..1\nok 1 - a\n==1==ERROR: LeakSanitizer\n", (1, 1, 0)),
    # Programs without a plan are one test.
    (0, "fine\n", (1, 0, 0)),
    (1, "", (0, 1, 0)),
    (None, "", (0, 1, 0)),
    (77, "no such hardware\n", (0, 0, 1)),
])
def test_count_tap(status, output, expected):
    passed, failed, skipped = run.count_tap(status, output)
    assert (passed, failed, len(skipped)) == expected


@pytest.mark.parametrize("passed, failed, skipped, line, status", [
    (3, 0, [], "3 passed, 0 failed", 0),
    (3, 1, [], "3 passed, 1 failed", 1),
    (3, 0, ["why"], "3 passed, 0 failed, 1 skipped", 0),
    (0, 0, [], "0 passed, 0 failed", 1),  # nothing ran: that is no success
])
def test_summary(tmp_path, capsys, passed, failed, skipped, line, status):
    report = run.Report(tmp_path / "logs")
    report.add("some/tests", passed, failed, skipped, "output")
    assert report.summary() == status
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == line
    for reason in skipped:
        assert reason in printed


def test_pytest_that_collects_nothing_fails(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_broken.py").write_text("import no_such_module\n")
    report = run.Report(tmp_path / "logs")
    run.pytest_tests(report, "broken", tmp_path / "tests")
    assert report.failed and not report.passed


def test_command_that_hangs_is_a_failure(tmp_path):
    report = run.Report(tmp_path / "logs")
    run.one_check(report, "hang", ["sleep", "100"], timeout=0.2)
    assert (report.passed, report.failed) == (0, 1)
