"""The program by itself: help, version, manual page."""
import subprocess

import pytest

pytestmark = pytest.mark.own


def test_version(run):
    result = run("--version")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith("plastron ")


def test_help_names_every_option(run):
    overview = run("--help")
    assert overview.returncode == 0 and overview.stderr == ""
    for command in ("run", "save", "restore", "ls", "info", "stop"):
        assert f"\n  {command} " in overview.stdout
        assert run(command, "--help").returncode == 0
    options = run("run", "--help").stdout
    for option in ("kernel", "initrd", "append", "memory", "cpus", "cpu", "disk", "firmware", "serial", "name",
                   "debug-exit", "debugcon", "rtc", "clock", "trace", "no-reboot"):
        assert f"--{option}" in options


def test_manual_page(plastron, run):
    """The page that the build made has all of the options, and man's formatter finds no fault with it."""
    page = plastron.with_name("plastron.1")
    assert page.exists()
    text = page.read_text()
    assert ".TH PLASTRON 1" in text
    for option in ("kernel", "memory", "debugcon"):
        assert option in text


def test_without_arguments(run):
    result = run()
    assert result.returncode == 1
    assert "plastron" in result.stderr and "help" in result.stderr


def test_output_to_a_closed_pipe(plastron):
    """`plastron --help | head -0` is no crash."""
    result = subprocess.run(f"{plastron} run --help | head -c 0; exit ${{PIPESTATUS[0]}}", shell=True,
                            executable="/bin/bash", stderr=subprocess.PIPE, check=False)
    assert result.returncode in (0, 1, 128 + 13)
