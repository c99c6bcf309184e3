#!/usr/bin/env python3
"""Make the C tables of the opcode table: gen-opcodes.py opcodes.tbl opcodes.gen.h opcodes.gen.c

The header has enum x86_op. The C file has x86_ops[] (facts about each operation), x86_rows[] (what the decoder needs to
know of each row) and one decision tree an opcode: inner nodes ask for CPU mode, prefix, parts of ModRM, W or L, and a
leaf is a row. src/x86/opcode_tables.h says how they are read; the table's own header says what a row may contain.
"""
import re
import sys

FLAG_BITS = dict(C="FLAG_CF", P="FLAG_PF", A="FLAG_AF", Z="FLAG_ZF", S="FLAG_SF", O="FLAG_OF", D="FLAG_DF")
OP_ATTRIBUTES = dict(lock="LOCKABLE", branch="BRANCH", priv="PRIVILEGED", serialise="SERIALISE", rep="REP", x87="X87",
                     sse="SSE", mmx="MMX", avx="AVX", later="LATER", inv64="INVALID64", only64="ONLY64",
                     notreal="NOT_REAL")
ROW_ATTRIBUTES = {"d64", "f64", "sx", "mem", "mod3", "nomod", "alias", "norexb", "amd64no", "intel64only", "vsib"}
IMMEDIATES = {(): "NONE", ("ib",): "IB", ("iw",): "IW", ("iz",): "IZ", ("iv",): "IV", ("cb",): "JB", ("cz",): "JZ",
              ("ap",): "AP", ("mo",): "MOFFS", ("iw", "ib"): "IW_IB", ("ib", "ib"): "IB_IB"}
PREFIXES = ["NP", "66", "F3", "F2"]  # the order of a BY_PREFIX node's children
LEGACY_MAPS = ((("0F", "38"), 2), (("0F", "3A"), 3), (("0F",), 1))
VEX_MAPS = {"0F": 4, "0F38": 5, "0F3A": 6}
MAP_COUNT = 7
FIXED_OPERANDS = {"AL", "CL", "AX", "DX", "eAX", "rAX", "ES", "CS", "SS", "DS", "FS", "GS", "ST0", "STi", "XMM0", "1"}
OPERAND = re.compile(r"[ABCDEGHIJLMNOPQRSUVWXYZ](b|w|d|q|dq|qq|x|v|z|y|p|s|a|t|ps|pd|ss|sd|pi)?$")

# The questions a tree may ask, in this order, each with the number of answers.
DIMENSIONS = (("MODE", 4), ("PREFIX", 4), ("MOD", 2), ("REG", 8), ("RM", 8), ("W", 2), ("L", 2), ("REX_B", 2))
MODE_LEGACY, MODE_LEGACY_AMD, MODE_64, MODE_64_AMD = range(4)


class Row:
    """One line of the table."""

    def __init__(self, text):
        columns = [column.strip() for column in text.split("|")]
        if len(columns) != 5:
            raise ValueError(f"{len(columns)} columns instead of 5")
        self.encoding, instruction, self.feature, flags, attributes = columns
        mnemonic, _, self.operand_text = instruction.partition(" ")
        self.mnemonic = mnemonic
        self.operands = [o for o in self.operand_text.split(",") if o]
        self.attributes = set() if attributes == "-" else set(attributes.split())
        self.without = None
        for attribute in list(self.attributes):
            if attribute.startswith("without:"):
                self.without = "OP_" + attribute.split(":")[1]
                self.attributes.remove(attribute)
            elif attribute not in OP_ATTRIBUTES and attribute not in ROW_ATTRIBUTES:
                raise ValueError(f"unknown attribute {attribute}")
        self.flags = dict(r="", w="", u="")
        for part in [] if flags == "-" else flags.split():
            kind, _, letters = part.partition(":")
            if kind not in self.flags or not set(letters) <= set(FLAG_BITS):
                raise ValueError(f"bad flags {part}")
            self.flags[kind] += letters
        if not set(self.flags["u"]) <= set(self.flags["w"]):
            raise ValueError("an undefined flag that is not written")
        self.name = "OP_" + "_".join([mnemonic.split("/")[0]] + [o.replace("/", "") for o in self.operands])
        self.check_operands()
        self.accept = {name: set(range(count)) for name, count in DIMENSIONS}
        self.strength = 0  # of two rows that fit, the stronger wins: by prefix, then by W and ModRM.reg, then by REX.B
        self.parse_encoding(self.encoding.split())
        self.apply_operands()
        self.apply_attributes()
        self.line = None

    def check_operands(self):
        for operand in self.operands:
            if operand not in FIXED_OPERANDS and not all(OPERAND.match(part) for part in operand.split("/")):
                raise ValueError(f"bad operand {operand}")

    def has_operand(self, letters):
        return any(part[0] in letters for o in self.operands if o not in FIXED_OPERANDS for part in o.split("/"))

    def parse_encoding(self, tokens):
        self.vex = tokens[0].startswith("VEX.")
        self.opcode_register = self.modrm = False
        self.explicit_66 = False
        if self.vex:
            self.map = self.parse_vex(tokens.pop(0))
        else:
            if tokens[0] in PREFIXES and len(tokens) > 1 and (tokens[0] == "NP" or tokens[1] in ("0F", "REX.W", "90")):
                self.accept["PREFIX"] = {PREFIXES.index(tokens[0])}
                self.explicit_66 = tokens[0] == "66"
                self.strength += 8
                tokens.pop(0)
            elif tokens[0] == "NFx":
                self.accept["PREFIX"] = {PREFIXES.index("NP"), PREFIXES.index("66")}
                self.strength += 8
                tokens.pop(0)
            if tokens[0] == "REX.W":
                self.accept["W"] = {1}
                self.strength += 2
                tokens.pop(0)
            self.map = 0
            for escape, number in LEGACY_MAPS:
                if tuple(tokens[:len(escape)]) == escape:
                    self.map = number
                    del tokens[:len(escape)]
                    break
        opcode = tokens.pop(0)
        if opcode.endswith("+r"):
            self.opcode_register = True
            opcode = opcode[:-2]
        self.opcode = int(opcode, 16)
        if tokens and tokens[0].startswith("/"):
            self.modrm = True
            if tokens[0] != "/r":
                self.accept["REG"] = {int(tokens[0][1:])}
                self.strength += 2
            tokens.pop(0)
        elif tokens and re.match(r"[0-9A-F]{2}(\+i)?$", tokens[0]):
            self.modrm = True
            byte = int(tokens[0][:2], 16)
            self.accept["MOD"] = {1}
            self.accept["REG"] = {byte >> 3 & 7}
            if not tokens[0].endswith("+i"):
                self.accept["RM"] = {byte & 7}
            tokens.pop(0)
        if tuple(tokens) not in IMMEDIATES:
            raise ValueError(f"cannot read encoding at {' '.join(tokens)}")
        self.immediate = IMMEDIATES[tuple(tokens)]
        if self.immediate == "IB" and "sx" in self.attributes:
            self.immediate = "IB_SX"

    def parse_vex(self, token):
        parts = token.split(".")[1:]
        if parts[0] in ("128", "LZ"):
            self.accept["L"] = {0}
        elif parts[0] == "256":
            self.accept["L"] = {1}
        if parts[0] in ("128", "256", "LZ", "LIG"):
            parts.pop(0)
        self.accept["PREFIX"] = {PREFIXES.index(parts.pop(0))}
        number = VEX_MAPS[parts.pop(0)]
        if parts and parts[0] in ("W0", "W1"):
            self.accept["W"] = {int(parts[0][1])}
            self.strength += 2
        elif parts and parts[0] != "WIG":
            raise ValueError(f"cannot read {token}")
        return number

    def apply_operands(self):
        """What the operands say about ModRM."""
        if self.modrm and "nomod" not in self.attributes:
            both = self.has_operand("EQW") or any("/" in o for o in self.operands)
            if not both and (self.has_operand("M") or "mem" in self.attributes):
                self.accept["MOD"] = {0}
            elif not both and self.has_operand("NRU"):
                self.accept["MOD"] = {1}
            if "mem" in self.attributes:
                self.accept["MOD"] = {0}
            if "mod3" in self.attributes:
                self.accept["MOD"] = {1}
        if "Sw" in self.operands:  # there are six; CS cannot be loaded
            self.accept["REG"] = {0, 2, 3, 4, 5} if self.operands[0] == "Sw" else {0, 1, 2, 3, 4, 5}

    def apply_attributes(self):
        modes = self.accept["MODE"]
        if "inv64" in self.attributes:
            modes -= {MODE_64, MODE_64_AMD}
        if "only64" in self.attributes:
            modes -= {MODE_LEGACY, MODE_LEGACY_AMD}
        if "amd64no" in self.attributes:
            modes -= {MODE_64_AMD}
        if "intel64only" in self.attributes:
            modes -= {MODE_LEGACY}
        if "norexb" in self.attributes:
            self.accept["REX_B"] = {0}
            self.strength += 1
        if self.vex:
            self.attributes.add("notreal")
            if self.feature not in ("BMI1", "BMI2"):
                self.attributes.add("avx")
        else:
            if self.has_operand("VUW"):
                self.attributes.add("sse")
            if self.has_operand("PQN"):
                self.attributes.add("mmx")
            if self.map == 0 and 0xD8 <= self.opcode <= 0xDF:
                self.attributes.add("x87")

    def size_class(self):
        if "f64" in self.attributes:
            if "branch" in self.attributes:
                return "F64_BRANCH"
            return "F64_Y" if any(o[-1] == "y" for o in self.operands) else "F64"
        if "d64" in self.attributes:
            return "D64"
        if "Ap" in self.operands or "Mp" in self.operands or "Ep" in self.operands:
            return "FAR"
        if self.explicit_66 or self.vex or any(o[-1] == "y" for o in self.operands):
            return "Y"
        return "V"

    def row_flags(self):
        flags = []
        if self.modrm:
            flags.append("MODRM")
        if self.opcode_register:
            flags.append("OPCODE_REGISTER")
        for attribute, flag in (("nomod", "NOMOD"), ("vsib", "VSIB"), ("lock", "LOCKABLE")):
            if attribute in self.attributes:
                flags.append(flag)
        if self.vex and self.has_operand("HB"):
            flags.append("VVVV")
        if self.has_operand("P") or "Sw" in self.operands:
            flags.append("REG3")
        if self.has_operand("QN") or self.map == 0 and 0xD8 <= self.opcode <= 0xDF:
            flags.append("RM3")
        if self.has_operand("C"):
            flags.append("CONTROL")
        if self.has_operand("D"):
            flags.append("DEBUG")
        return flags

    def slots(self):
        return range(self.opcode, self.opcode + 8) if self.opcode_register else [self.opcode]


class Trees:
    """The decision trees of all opcodes in one array; equal subtrees are shared."""

    def __init__(self):
        self.words = [0]  # a node is never at 0, which means #UD
        self.known = {}

    def build(self, rows, index_of, dimension=0):
        if not rows:
            return 0
        if dimension == len(DIMENSIONS):
            best = max(row.strength for row in rows)
            rows = [row for row in rows if row.strength == best]
            if len(rows) > 1:
                raise ValueError(f"{rows[0].encoding} and {rows[1].encoding} are the same encoding")
            return 0x8000 | index_of[rows[0]]
        name, count = DIMENSIONS[dimension]
        if all(len(row.accept[name]) == count for row in rows):
            return self.build(rows, index_of, dimension + 1)
        children = [self.build([r for r in rows if v in r.accept[name]], index_of, dimension + 1) for v in range(count)]
        if len(set(children)) == 1:
            return children[0]
        key = (name, *children)
        if key not in self.known:
            self.known[key] = len(self.words)
            self.words += [f"BY_{name}", *children]
        return self.known[key]


def read_rows(path):
    rows = []
    for number, line in enumerate(open(path, encoding="ascii"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            row = Row(line)
        except (ValueError, IndexError, KeyError) as problem:
            sys.exit(f"{path}:{number}: {problem}: {line}")
        row.line = number
        rows.append(row)
    names = {}
    for row in rows:
        if "alias" not in row.attributes:
            if row.name in names:
                sys.exit(f"{path}:{row.line}: {row.name} is there already; an alias must be marked so")
            names[row.name] = row
    for row in rows:
        if row.name not in names:
            sys.exit(f"{path}:{row.line}: an alias of nothing: {row.name}")
    for row in rows:
        if row.without and row.without not in names:
            sys.exit(f"{path}:{row.line}: there is no {row.without}")
    return rows, names


def flag_mask(letters):
    return " | ".join(FLAG_BITS[letter] for letter in sorted(set(letters))) or "0"


def write_header(out, names):
    out.write("/* Made from x86/opcodes.tbl by tools/gen-opcodes.py. */\n#ifndef X86_OPCODES_GEN_H\n"
              "#define X86_OPCODES_GEN_H\n\nenum x86_op {\n    OP_INVALID, /* no row: #UD */\n")
    for name, row in names.items():
        out.write(f"    {name}, /* {row.encoding} */\n")
    out.write("    OP_COUNT,\n};\n\n#endif\n")


def write_source(out, rows, names):
    encodings = {}
    for row in rows:
        encodings.setdefault(row.name, []).append(row.encoding)
    out.write("/* Made from x86/opcodes.tbl by tools/gen-opcodes.py. */\n#include \"x86/cpu_features.h\"\n"
              "#include \"x86/opcode_tables.h\"\n#include \"x86/vcpu_state.h\"\n\n"
              "const struct x86_op_info x86_ops[OP_COUNT] = {\n"
              "    [OP_INVALID] = {.mnemonic = \"(bad)\", .encoding = \"\", .operands = \"\"},\n")
    for name, row in names.items():
        attributes = " | ".join("X86_OP_" + OP_ATTRIBUTES[a] for a in sorted(row.attributes & set(OP_ATTRIBUTES)))
        feature = "0" if row.feature == "-" else "X86_FEATURE_" + row.feature
        out.write(f"    [{name}] = {{\"{row.mnemonic}\", \"{', '.join(encodings[name])}\", \"{row.operand_text}\", "
                  f"{feature}, {row.without or 0}, {flag_mask(row.flags['r'])}, {flag_mask(row.flags['w'])}, "
                  f"{flag_mask(row.flags['u'])}, {attributes or 0}}},\n")
    out.write("};\n\nconst struct x86_row x86_rows[] = {\n")
    for row in rows:
        flags = " | ".join("X86_ROW_" + flag for flag in row.row_flags()) or "0"
        out.write(f"    {{{row.name}, X86_IMM_{row.immediate}, X86_SIZE_{row.size_class()}, {flags}}},\n")
    out.write("};\n\n")
    index_of = {row: index for index, row in enumerate(rows)}
    trees = Trees()
    roots = []
    for number in range(MAP_COUNT):
        for opcode in range(256):
            candidates = [row for row in rows if row.map == number and opcode in row.slots()]
            if any(row.modrm for row in candidates) and not all(row.modrm for row in candidates):
                bare = {row.encoding for row in candidates if not row.modrm}
                if not any(r.accept["PREFIX"] != candidates[0].accept["PREFIX"] for r in candidates):
                    sys.exit(f"opcode {opcode:02X}: {bare} has no ModRM and other rows have")
            try:
                roots.append(trees.build(candidates, index_of))
            except ValueError as problem:
                sys.exit(str(problem))
    assert len(rows) < 0x8000 and len(trees.words) < 0x8000
    out.write("const u16 x86_trees[] = {\n")
    for start in range(0, len(trees.words), 12):
        words = ("X86_" + w if isinstance(w, str) else f"0x{w:x}" for w in trees.words[start:start + 12])
        out.write("    " + ", ".join(words) + ",\n")
    out.write(f"}};\n\nconst u16 x86_roots[X86_MAP_COUNT][256] = {{\n")
    for number in range(MAP_COUNT):
        out.write("    {\n")
        for start in range(0, 256, 16):
            out.write("        " + ", ".join(f"0x{w:x}" for w in roots[number * 256 + start:][:16]) + ",\n")
        out.write("    },\n")
    out.write("};\n")


def main():
    table, header, source = sys.argv[1:]
    rows, names = read_rows(table)
    with open(header, "w", encoding="ascii") as out:
        write_header(out, names)
    with open(source, "w", encoding="ascii") as out:
        write_source(out, rows, names)


if __name__ == "__main__":
    main()
