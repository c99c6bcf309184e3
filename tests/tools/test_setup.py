"""tools/setup.sh, with dpkg and apt replaced by scripts that write down what they were asked."""
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "tools" / "setup.sh"

FAKES = {
    # Installed is what the file says.
    "dpkg-query": 'for package; do :; done; grep -qx "$package" "$STATE/installed" && echo installed',
    # `policy` knows every package once the lists were fetched.
    "apt-cache": '[ -e "$STATE/lists" ] && echo "  Candidate: 1.0" || true',
    "apt-get": 'echo "$*" >>"$STATE/calls"\n'
               'case "$1" in\n'
               'update) touch "$STATE/lists" ;;\n'
               'install) [ -e "$STATE/lists" ] || exit 100 ;;\n'
               'esac',
    "id": 'echo "${FAKE_UID:-0}"',
    "sudo": 'echo "sudo" >>"$STATE/calls"; exec "$@"',
}


@pytest.fixture
def setup(tmp_path):
    """setup(WORD..., installed=(), lists=True, uid=0, sudo=True): its result and the calls of apt-get."""

    def run(*words, installed=(), lists=True, uid=0, sudo=True):
        tools = tmp_path / "bin"
        tools.mkdir()
        for name, text in FAKES.items():
            if name != "sudo" or sudo:
                (tools / name).write_text(f"#!/bin/sh\n{text}\n")
                (tools / name).chmod(0o755)
        for name in ("bash", "sh", "sed", "awk", "grep", "dirname", "env", "touch"):
            (tools / name).symlink_to(f"/usr/bin/{name}")
        (tmp_path / "installed").write_text("".join(f"{name}\n" for name in installed))
        (tmp_path / "calls").touch()
        if lists:
            (tmp_path / "lists").touch()
        result = subprocess.run([SETUP, *words], env={"PATH": str(tools), "STATE": str(tmp_path), "FAKE_UID": str(uid)},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                check=False)
        return result, (tmp_path / "calls").read_text().splitlines()

    return run


def packages(name):
    """The packages of a set, read in another way than the script does."""
    found, inside = [], False
    for line in (ROOT / "tools" / "packages.txt").read_text().splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("["):
            inside = line == f"[{name}]"
        elif line and inside:
            found.append(line)
    return found


@pytest.mark.parametrize("name", ["build", "guest", "check", "bench"])
def test_sets_are_lists_of_package_names(name):
    assert packages(name)
    assert all(package.replace("-", "").replace(".", "").replace("+", "").isalnum() for package in packages(name))


def test_nothing_missing_is_silent(setup):
    result, calls = setup("build", "guest", installed=packages("build") + packages("guest"))
    assert (result.returncode, result.stdout, result.stderr, calls) == (0, "", "", [])


def test_installs_what_is_missing_and_says_so(setup):
    result, calls = setup("build", installed=packages("build")[2:])
    assert result.returncode == 0
    missing = " ".join(packages("build")[:2])
    assert f"Missing Debian packages: {missing}" in result.stdout
    assert calls == [f"install -y --no-install-recommends {missing}"]


def test_fetches_lists_that_are_absent(setup):
    result, calls = setup("build", lists=False)
    assert result.returncode == 0
    assert calls[0] == "update" and calls[1].startswith("install ") and len(calls) == 2


def test_uses_sudo_when_not_root(setup):
    result, calls = setup("build", uid=1000)
    assert result.returncode == 0
    assert calls[0] == "sudo" and calls[1].startswith("install ")


def test_without_sudo_says_what_to_run(setup):
    result, calls = setup("build", uid=1000, sudo=False)
    assert result.returncode == 1
    assert "apt-get install --no-install-recommends " + " ".join(packages("build")) in result.stderr
    assert calls == []


def test_check_installs_nothing(setup):
    result, calls = setup("--check", "build")
    assert result.returncode == 1
    assert "apt-get install" in result.stderr
    assert calls == []


def test_unknown_set(setup):
    result, calls = setup("biuld")
    assert result.returncode == 1
    assert "biuld" in result.stderr
    assert calls == []
