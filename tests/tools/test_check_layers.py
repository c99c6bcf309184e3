"""tools/check-layers.py catches what it is for, and accepts what the layers allow."""
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("check_layers", ROOT / "tools" / "check-layers.py")
check_layers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_layers)


def tree(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize("source, included", [
    ("src/base/log.c", "machine/vm.h"),             # upward
    ("src/state/state.c", "x86/decode.h"),          # sideways
    ("src/machine/vm.c", "dev/i8259.h"),            # the machine knows no chip
    ("src/machine/vm.c", "engine/interp/interp.h"),
    ("src/dev/i8259.c", "engine/interp/interp.h"),  # siblings
    ("src/dev/virtio/blk.c", "firmware/acpi.h"),
    ("src/firmware/acpi.c", "dev/i440fx.h"),
    ("src/engine/kvm/kvm.c", "engine/interp/interp.h"),
    ("src/snapshot/save.c", "board/pc.h"),          # knows no device
    ("src/migrate/stream.c", "replay/tape.h"),
    ("src/control/main.c", "machine/vm.h"),         # the command line is a client of the library
    ("src/control/main.c", "api/vm.h"),
    ("src/board/pc.c", "snapshot/save.h"),
    ("src/machine/vm.c", "plastron/plastron.h"),
])
def test_forbidden(tmp_path, source, included):
    tree(tmp_path, {source: f'#include <stdio.h>\n#  include "{included}"\n'})
    problems = check_layers.check(tmp_path)
    assert len(problems) == 1
    assert problems[0].startswith(f"{source}:2: ") and included in problems[0]


@pytest.mark.parametrize("source, included", [
    ("src/base/log.c", "base/error.h"),
    ("src/x86/decode.c", "x86/opcodes.gen.h"),
    ("src/dev/virtio/blk.c", "dev/pci.h"),
    ("src/dev/virtio/blk.c", "virtio.h"),
    ("src/dev/i8259.c", "machine/irq.h"),
    ("src/board/pc.c", "dev/i440fx.h"),
    ("src/board/pc.c", "engine/interp/interp.h"),
    ("src/replay/tape.c", "snapshot/file.h"),
    ("src/api/vm.c", "board/pc.h"),
    ("src/api/vm.c", "plastron/plastron.h"),
    ("src/control/main.c", "plastron/plastron.h"),
    ("src/control/main.c", "base/log.h"),
])
def test_allowed(tmp_path, source, included):
    tree(tmp_path, {source: f'#include "{included}"\n'})
    assert check_layers.check(tmp_path) == []


def test_relative_path_does_not_hide_the_layer(tmp_path):
    tree(tmp_path, {"src/dev/i8259.c": '#include "../engine/interp/interp.h"\n', "src/engine/interp/interp.h": ""})
    assert len(check_layers.check(tmp_path)) == 1


def test_public_header_includes_nothing_of_ours(tmp_path):
    tree(tmp_path, {"include/plastron/plastron.h": '#include "base/types.h"\n'})
    assert len(check_layers.check(tmp_path)) == 1


def test_unknown_folder(tmp_path):
    tree(tmp_path, {"src/misc/thing.c": ""})
    assert "no known layer" in check_layers.check(tmp_path)[0]


def test_this_repository():
    assert check_layers.check(ROOT) == []
