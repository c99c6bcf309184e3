#!/usr/bin/python3
"""Check that state tables and structs agree (invariant 5): every member of a struct that has a state table is in the table
or carries a comment `not saved: REASON`, and not both.

    tools/check-state.py [ROOT]      ROOT: the repository, by default the one this file is in

Prints one line for each disagreement and exits with 1 if there is any.

It reads C as this project writes it: tables made of STATE_* macros (or initialisers with offsetof), one declaration a
member, a comment on the same lines as its declaration, or alone on the lines above it.
"""
import re
import sys
from pathlib import Path

MARK = "not saved:"
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
ENTRY = re.compile(r"\bSTATE_(?:FIELD|ARRAY|STRUCT|STRUCTS)\s*\(\s*(struct\s+\w+|\w+)\s*,\s*(\w+)")
OFFSET = re.compile(r"\.offset\s*=\s*offsetof\s*\(\s*(struct\s+\w+|\w+)\s*,\s*(\w+)")
STRUCT = re.compile(r"\b(?:struct\s+(\w+)|typedef\s+struct\s*\w*)\s*\{")


def blank(text):
    """Spaces in place of every character but newlines."""
    return re.sub(r"[^\n]", " ", text)


def split_comments(text):
    """(code with comments and the content of literals blanked, [(start, end, text of a comment)])"""
    comments = []

    def replace(match):
        token = match[0]
        if token[0] == "/":
            comments.append((match.start(), match.end(), token))
        return blank(token)

    return TOKEN.sub(replace, text), comments


def matching_brace(code, start):
    """Index of the brace that closes the one at start."""
    depth = 0
    for index in range(start, len(code)):
        if code[index] == "{":
            depth += 1
        elif code[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    return len(code)


def declarator_names(declaration):
    """Names that one declaration (without its semicolon) declares."""
    declaration = re.sub(r"\{.*\}", " ", declaration, flags=re.S)
    declaration = re.sub(r"__attribute__\s*\(\(.*?\)\)", " ", declaration, flags=re.S)
    declaration = re.sub(r"\[[^\]]*\]", " ", declaration)
    pointer = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(", declaration)
    if pointer:  # of a function
        return [pointer[1]]
    names = []
    for part in declaration.split(","):
        part = part.split(":")[0]  # bit-field
        words = re.findall(r"\w+", part)
        if words:
            names.append(words[-1])
    return names


class Struct:
    """members: name -> (line, whether marked as not saved)"""

    def __init__(self, where):
        self.where = where
        self.members = {}


def read_members(path, code, comments, body_start, body_end, struct):
    """Fill struct.members from code[body_start:body_end]."""
    start, depth, previous_end_line = body_start, 0, -1
    line_of = lambda index: code.count("\n", 0, index) + 1
    index = body_start
    while index < body_end:
        char = code[index]
        depth += (char in "{(") - (char in "})")
        if char != ";" or depth:
            index += 1
            continue
        declaration = code[start:index]
        offset = len(declaration) - len(declaration.lstrip())
        first_line, last_line = line_of(start + offset), line_of(index)
        # Comments of this member: inside it, after it on its last line (and those that go on in the lines below a //),
        # and alone on the lines above.
        mine, follow = [], last_line
        for begin, end, text in comments:
            if begin < body_start or begin >= body_end:
                continue
            line = line_of(begin)
            alone = not code[code.rfind("\n", 0, begin) + 1 : begin].strip()
            if line == follow + 1 and alone and text.startswith("//") and mine and mine[-1].startswith("//"):
                follow = line
                mine.append(text)
            elif start + offset <= begin < index or (line == last_line and begin > index):
                follow = line_of(end - 1)
                mine.append(text)
            elif alone and previous_end_line < line < first_line:
                mine.append(text)
        marked = any(MARK in text for text in mine)
        for text in mine:
            if MARK in text and not re.search(MARK + r"\s*\w", text):
                struct.members[f"?{first_line}"] = (first_line, marked)
        for name in declarator_names(declaration.strip()):
            struct.members[name] = (first_line, marked)
        start, previous_end_line = index + 1, max(last_line, follow)
        index += 1


def read_file(path, where, structs, tables):
    text = path.read_text(errors="replace")
    code, comments = split_comments(text)
    for match in STRUCT.finditer(code):
        end = matching_brace(code, match.end() - 1)
        name = "struct " + match[1] if match[1] else None
        if name is None:
            typedef = re.match(r"\}\s*(\w+)", code[end:])
            name = typedef[1] if typedef else None
        # Inside another struct only when it stands at the start of a line's declaration; nested ones have no table.
        if name and (name not in structs or structs[name].where.startswith(where.rsplit(".", 1)[0])):
            struct = Struct(where)
            read_members(path, code, comments, match.end(), end, struct)
            structs[name] = struct
    if not where.endswith("state/state.h"):
        for pattern in (ENTRY, OFFSET):
            for match in pattern.finditer(code):
                type_name = " ".join(match[1].split())
                if pattern is OFFSET and "state_field" not in code[: match.start()]:
                    continue
                if pattern is OFFSET and not in_state_table(code, match.start()):
                    continue
                line = code.count("\n", 0, match.start()) + 1
                tables.setdefault(type_name, {}).setdefault(match[2], f"{where}:{line}")


def in_state_table(code, index):
    """Whether the initialiser around index is that of a struct state_field array."""
    begin = code.rfind("struct state_field", 0, index)
    brace = code.find("{", begin)
    return begin >= 0 and brace < index < matching_brace(code, brace)


def check(root):
    """All disagreements under root, as lines of text."""
    structs, tables, problems = {}, {}, []
    root = root.resolve()
    paths = sorted((root / "src").rglob("*.[ch]"))
    for path in paths:
        read_file(path, path.relative_to(root).as_posix(), structs, tables)
    for type_name, fields in sorted(tables.items()):
        struct = structs.get(type_name)
        if struct is None:
            problems.append(f"{next(iter(fields.values()))}: the definition of {type_name} was not found")
            continue
        for name, (line, marked) in struct.members.items():
            here = f"{struct.where}:{line}: {type_name}.{name}"
            if name.startswith("?"):
                problems.append(f"{struct.where}:{line}: {type_name}: `not saved:` without a reason")
            elif name in fields and marked:
                problems.append(f"{here} is marked as not saved, but is in the state table ({fields[name]})")
            elif name not in fields and not marked:
                problems.append(f"{here} is in no state table and has no `not saved: REASON`")
        for name, where in fields.items():
            if name not in struct.members:
                problems.append(f"{where}: {type_name} has no member {name}")
    return problems


def main(arguments):
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    problems = check(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
