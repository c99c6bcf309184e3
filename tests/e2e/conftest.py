"""Fixtures of the end-to-end tests, and the option that runs them against QEMU instead, to check the tests themselves:

    /usr/bin/python3 -m pytest tests/e2e --peer qemu
"""
import os
import tempfile
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

import machine as machines

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--peer", choices=["qemu"], help="run what can be run against this program instead of Plastron")


def pytest_configure(config):
    config.addinivalue_line("markers", "own: about Plastron's own interface: cannot run against a peer")
    config.addinivalue_line("markers", "long: part of make check-long only")


@pytest.fixture(autouse=True)
def skip_for_peer(request):
    if request.config.getoption("--peer") and request.node.get_closest_marker("own"):
        pytest.skip("about Plastron's own interface")


@pytest.fixture(scope="session")
def plastron(request):
    """Path of the program under test."""
    path = Path(os.environ.get("PLASTRON", ROOT / "build" / "plastron")).resolve()
    if not request.config.getoption("--peer"):
        assert path.exists(), f"{path} is not there: run make"
    return path


@pytest.fixture(scope="session")
def guest():
    """The prepared guests: guest.vmlinuz and so on (tools/guest/make-guest.sh names them)."""
    folder = Path(os.environ.get("PLASTRON_GUEST", ROOT / "build" / "guest")).resolve()
    files = {"vmlinuz": "vmlinuz", "vmlinux": "vmlinux", "initrd": "initrd.img", "vmlinuz_686": "vmlinuz-686",
             "initrd_686": "initrd-686.img", "root": "root.img"}
    for name in files.values():
        assert (folder / name).exists(), f"{folder / name} is not there: run make guest"
    return SimpleNamespace(**{key: folder / name for key, name in files.items()})


@pytest.fixture
def environment():
    """The environment of the programs under test: control sockets go to a folder of this test's own. Its name is short, since
    that of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="e2e-") as runtime:
        yield dict(os.environ, XDG_RUNTIME_DIR=runtime, TERM="dumb")


@pytest.fixture
def machine(request, plastron, environment, tmp_path):
    """machine(WORD...) starts the program and gives a Machine; all of them end with the test."""
    started = []

    def start(*words):
        words = [str(word) for word in words]
        program = plastron
        if request.config.getoption("--peer") == "qemu":
            program, words = "qemu-system-x86_64", machines.qemu_words(words)
        started.append(machines.Machine(program, words, cwd=tmp_path, env=environment))
        return started[-1]

    yield start
    failed = getattr(request.node, "failed", True)
    for one in started:
        one.__exit__(failed or None, None, None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed


@pytest.fixture
def linux(machine, guest):
    """linux(WORD...) boots the small guest with further arguments; `append` is added to the kernel's command line."""

    def boot(*words, append="", kernel=None, initrd=None, memory="256M"):
        return machine("run", "--kernel", kernel or guest.vmlinuz, "--initrd", initrd or guest.initrd, "--append",
                       f"console=ttyS0 quiet {append}".strip(), "--memory", memory, *words)

    return boot


@pytest.fixture
def run(plastron, environment, tmp_path):
    """run(WORD...) runs the program to its end, without a terminal."""

    def run_words(*words, **options):
        return machines.run(plastron, *words, env=environment, cwd=tmp_path, **options)

    return run_words


@pytest.fixture
def name():
    """A VM name that no other test uses."""
    return "t" + uuid.uuid4().hex[:12]
