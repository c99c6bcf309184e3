"""tools/check-state.py catches a field that is forgotten, in whatever way it is written, and accepts what is marked."""
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("check_state", ROOT / "tools" / "check-state.py")
check_state = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_state)

TABLE = """
static const struct state_field chip_fields[] = {
    STATE_FIELD(struct chip, a, STATE_U8, 1),
    STATE_ARRAY(struct chip, b,
                STATE_U16, 1),
    STATE_STRUCTS(struct chip, c, &other_table, 1),
    {.name = "d", .type = STATE_U8, .offset = offsetof(struct chip, d), .size = 1, .count = 1, .since = 1},
    STATE_END,
};
"""
MEMBERS = "u8 a; /* saved */\n    u16 b[4];\n    struct other c[2];\n    u8 d;\n"


def problems(tmp_path, members, table=TABLE):
    (tmp_path / "src" / "dev").mkdir(parents=True, exist_ok=True)
    (tmp_path / "src" / "dev" / "chip.h").write_text("struct chip {\n    " + members + "};\nstruct chip *chip_new(void);\n")
    (tmp_path / "src" / "dev" / "chip.c").write_text('#include "dev/chip.h"\n' + table)
    return check_state.check(tmp_path)


def test_complete_table(tmp_path):
    assert problems(tmp_path, MEMBERS) == []


@pytest.mark.parametrize("member", [
    "u8 e;",
    "u8 e, f; // not saved: wrong place\n u8 g;",
    "u8 *e; /* a comment, but not the mark */",
    "void (*fire)(void *opaque);",
    "unsigned e : 3;",
    "u8 e[4][5];",
    "struct { u8 x; } e;",
    "const char *e; /* saved elsewhere; */",
    'u8 e; /* see "not saved" */',
])
def test_forgotten_member(tmp_path, member):
    found = problems(tmp_path, MEMBERS + "    " + member + "\n")
    assert len(found) == 1
    assert "is in no state table" in found[0]
    assert "src/dev/chip.h:" in found[0]


@pytest.mark.parametrize("member", [
    "u8 e; // not saved: wiring",
    "u8 e; /* not saved: wiring */",
    "u8 e, f; // not saved: wiring",
    "/* Who fires. */\n void (*fire)(void *opaque); // not saved: wiring",
    "/* not saved: wiring, and a long story\n about it */\n u8 e;",
    "u8 e; // a long story,\n       // not saved: because of that",
    "struct {\n u8 x; /* of it */\n u8 y;\n } e; // not saved: wiring",
    "u8 e; /* a long story,\n not saved: because of that */",
])
def test_marked_member(tmp_path, member):
    assert problems(tmp_path, MEMBERS + "    " + member + "\n") == []


def test_a_mark_does_not_reach_the_next_member(tmp_path):
    found = problems(tmp_path, MEMBERS + "    u8 e; // not saved: wiring\n    u8 f;\n")
    assert len(found) == 1 and "struct chip.f " in found[0]


def test_saved_and_marked(tmp_path):
    found = problems(tmp_path, MEMBERS.replace("/* saved */", "// not saved: or is it"))
    assert len(found) == 1 and "struct chip.a is marked as not saved" in found[0]


def test_mark_without_a_reason(tmp_path):
    found = problems(tmp_path, MEMBERS + "    u8 e; // not saved:\n")
    assert len(found) == 1 and "without a reason" in found[0]


def test_field_of_no_member(tmp_path):
    found = problems(tmp_path, MEMBERS.replace("u8 d;\n", ""))
    assert len(found) == 1 and "has no member d" in found[0]


def test_table_of_no_struct(tmp_path):
    found = problems(tmp_path, MEMBERS, "static const struct state_field f[] = {STATE_FIELD(struct ghost, a, STATE_U8, 1)};")
    assert len(found) == 1 and "struct ghost was not found" in found[0]


def test_offsetof_outside_a_table_is_no_field(tmp_path):
    table = TABLE + "static const struct property p[] = {{.offset = offsetof(struct device_x, irq)}};\n"
    assert problems(tmp_path, MEMBERS, table) == []


def test_the_tree_itself():
    assert check_state.check(ROOT) == []
