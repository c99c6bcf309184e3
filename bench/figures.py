"""What `make bench` makes of what it sees: entries, marker lines, medians, ratios, tables. No process and no clock here."""
import re
import statistics

CLASSES = {
    "interpreter": "interpreters and compilers",
    "integer": "integer",
    "float": "floating point and vector",
    "kernel": "kernel-bound",
}
# Not in the guest's list: a guest of its own, from the program's start to the first line of its init, and to power-off.
BOOT = {"boot-init": "kernel", "boot-off": "kernel"}
# What two vCPUs have to run as fast as one: the classes of loads that share nothing.
SCALING = ["py-object", "py-dict", "py-json", "sqlite", "crc32", "qsort", "sieve", "recursion"]
CAP = 10  # an entry counts at most so much in the mean of all against QEMU

MARKER = re.compile(r"BENCH ([\w-]+) (begin|end|used|sum|failed|features)\b ?(.*)")
DONE = re.compile(r"BENCH done\b")


def read_entries(text):
    """The classes of the entries of bench/guest/entries, in their order."""
    entries = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(None, 2)
        if len(words) < 3 or words[1] not in CLASSES or words[0] in entries:
            raise ValueError(f"entries, line {number}: not a new name, a class of {', '.join(CLASSES)}, and a command")
        entries[words[0]] = words[1]
    return entries


class Markers:
    """The markers of one run, fed by line with the times of their arrival."""

    def __init__(self):
        self.seconds, self.cpu_seconds, self.sums = {}, {}, {}
        self.failures = []
        self.features = ()
        self.init = None  # when the first line of init came, and the CPU seconds until then
        self.done = False
        self._begun = None

    def take(self, line, now, cpu):
        """A line came at `now`, when the peer had used `cpu` seconds. Returns the name of an entry that ended with it, or
        "init" at the first line of init."""
        if DONE.search(line):
            self.done = True
            return None
        match = MARKER.search(line)
        if not match:
            return None
        name, what, rest = match.group(1), match.group(2), match.group(3).strip()
        if what == "begin":
            if name == "init":
                self.init = now, cpu
                return name
            self._begun = (name, now, cpu)
        elif what == "features":
            self.features = tuple(rest.split())
        elif what == "used":
            self.cpu_seconds[name] = float(rest)
        elif what == "failed":
            self.failures.append(f"{name} failed: {rest}")
            self.seconds.pop(name, None)
            self.cpu_seconds.pop(name, None)
        elif what == "sum":
            if self.sums.setdefault(name, rest) != rest:
                self.failures.append(f"{name}: two copies gave {self.sums[name]} and {rest}")
        elif self._begun and self._begun[0] == name:
            self.seconds[name] = now - self._begun[1]
            self.cpu_seconds[name] = cpu - self._begun[2]
            self._begun = None
            return name
        return None


class Results:
    """All runs of all peers: what is stored as JSON."""

    def __init__(self, entries):
        self.entries = {name: {"class": kind, "seconds": {}, "cpu_seconds": {}, "sums": {}} for name, kind in entries.items()}
        self.failures = []

    def add(self, peer, markers):
        """Take the markers of one run of a peer."""
        for name, seconds in markers.seconds.items():
            if name in self.entries:
                entry = self.entries[name]
                entry["seconds"].setdefault(peer, []).append(seconds)
                entry["cpu_seconds"].setdefault(peer, []).append(markers.cpu_seconds[name])
        for name, value in markers.sums.items():
            first = self.entries[name]["sums"].setdefault(peer, value)
            if first != value:
                self.failures.append(f"{peer}: {name} gave {value}, and {first} in an earlier round")
        self.failures += [f"{peer}: {failure}" for failure in markers.failures]

    def compare_sums(self):
        """A failure for each entry whose peers do not agree."""
        for name, entry in self.entries.items():
            if len(set(entry["sums"].values())) > 1:
                self.failures.append(f"{name}: the results differ: " +
                                     ", ".join(f"{peer} {value}" for peer, value in entry["sums"].items()))

    def median(self, name, peer, of="seconds"):
        runs = self.entries[name][of].get(peer)
        return statistics.median(runs) if runs else None

    def ratio(self, name, peer, other, of="seconds"):
        """How many times as long as `other` the peer takes, or None."""
        own, its = self.median(name, peer, of), self.median(name, other, of)
        return own / its if own and its else None

    def faster(self, name, peer, other, of="seconds"):
        return self.ratio(name, other, peer, of)

    def means(self, peer, function, other, cap=None, of="seconds"):
        """Geometric means of function(name, peer, other) by class, and "all", where each counts at `cap` at most."""
        ratios = {name: function(name, peer, other, of) for name in self.entries}
        means = {}
        for kind in CLASSES:
            means[kind] = mean(ratio for name, ratio in ratios.items() if self.entries[name]["class"] == kind)
        means["all"] = mean(min(ratio, cap or ratio) for ratio in ratios.values() if ratio)
        return means


def mean(values):
    """The geometric mean of those that are there; None of none."""
    values = [value for value in values if value]
    return statistics.geometric_mean(values) if values else None


def summary(results, peers, own):
    """Medians, ratios and means: {"medians": {entry: {peer: s}}, "against": {peer: {other: {...}}}}, for seconds and CPU
    seconds. `own` are the peers that are Plastron: compared with QEMU, with native, and with the first of them."""
    against = {}
    for of in ("seconds", "cpu_seconds"):
        against[of] = {}
        for peer in own:
            against[of][peer] = {}
            for other, function, cap in (("qemu", results.faster, CAP), ("native", results.ratio, None),
                                         (own[0], results.ratio, None)):
                if other in peers and other != peer:
                    against[of][peer][other] = {
                        "entries": {name: function(name, peer, other, of) for name in results.entries},
                        "means": results.means(peer, function, other, cap, of),
                    }
    medians = {of: {name: {peer: results.median(name, peer, of) for peer in peers} for name in results.entries}
               for of in ("seconds", "cpu_seconds")}
    return {"medians": medians, "against": against}


def flatten(facts, prefix=""):
    """The numbers of nested facts of each vCPU as {"exits.memory": sum over the vCPUs}; percentages do not add up."""
    flat = {}
    if isinstance(facts, list):
        for one in facts:
            for name, value in flatten(one, prefix).items():
                flat[name] = flat.get(name, 0) + value
    elif isinstance(facts, dict):
        for name, value in facts.items():
            flat.update(flatten(value, f"{prefix}.{name}" if prefix else name))
    elif isinstance(facts, int) and not prefix.endswith("_percent"):
        flat[prefix] = facts
    return flat


def counted(before, after):
    """What was counted in between, without what was not."""
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def counter_rows(results, peer):
    """What the translator did in each entry, a row each."""
    rows = [[f"{peer}, per entry", "blocks translated", "translator ms", "host bytes a guest byte",
             "flushes of the code", "thousand exits", "most exits for"]]
    for name, entry in results.entries.items():
        counters = entry.get("counters", {}).get(peer)
        if not counters:
            continue
        exits = {key.removeprefix("exits."): value for key, value in counters.items() if key.startswith("exits.")}
        guest = counters.get("translated.guest_bytes")
        rows.append([name, str(counters.get("translated.blocks", 0)),
                     number(counters.get("translated.microseconds", 0) / 1e3, 0),
                     number(counters.get("translated.host_bytes", 0) / guest if guest else None, 1),
                     str(counters.get("code_cache_flushes", 0)), number(sum(exits.values()) / 1e3, 0),
                     max(exits, key=exits.get, default="-")])
    return rows


def heading(peer, other, own):
    words = "times as fast as qemu" if other == "qemu" else f"times as long as {other}"
    return f"{peer}: {words}" if len(own) > 1 else words


def rows_of(results, peers, own, of="seconds"):
    """The table of all entries: a list of rows of cells."""
    figures = summary(results, peers, own)
    medians, against = figures["medians"][of], figures["against"][of]
    columns = [(peer, other) for peer in own for other in against[peer]]
    rows = [["seconds" if of == "seconds" else "CPU seconds", *peers,
             *(heading(peer, other, own) for peer, other in columns)]]
    kind = None
    for name, entry in results.entries.items():
        if all(value is None for value in medians[name].values()):
            continue
        if entry["class"] != kind:
            kind = entry["class"]
            rows.append([f"{CLASSES[kind]}:"] + [""] * len(peers) +
                        [number(against[peer][other]["means"][kind]) for peer, other in columns])
        rows.append([f"  {name}", *(number(medians[name][peer], 3) for peer in peers),
                     *(number(against[peer][other]["entries"][name]) for peer, other in columns)])
    if columns:
        rows.append(["all"] + [""] * len(peers) + [number(against[peer][other]["means"]["all"]) for peer, other in columns])
    return rows


def scaling_rows(one, many, peers, copies):
    """The table of the scaling mode, N copies on N vCPUs beside one on one, and its ratios by peer and entry."""
    rows = [["seconds"] + [heading for peer in peers for heading in
                           (f"{peer}: 1 on 1 vCPU", f"{copies} on {copies}", "times as long")]]
    ratios = {peer: {} for peer in peers}
    for name in one.entries:
        row = [name]
        for peer in peers:
            first, second = one.median(name, peer), many.median(name, peer)
            ratios[peer][name] = second / first if first and second else None
            row += [number(first, 3), number(second, 3), number(ratios[peer][name])]
        rows.append(row)
    rows.append(["all"] + [cell for peer in peers for cell in ("", "", number(mean(ratios[peer].values())))])
    return rows, ratios


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def layout(rows):
    """The rows as text, first column to the left; long headings are broken into lines."""
    def broken(cell):
        lines = [""]
        for word in cell.split():
            if lines[-1] and len(lines[-1]) + 1 + len(word) > 14:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        return lines

    head = [broken(cell) for cell in rows[0]]
    height = max(len(lines) for lines in head)
    rows = [[(lines + [""] * (height - len(lines)))[i] for lines in head] for i in range(height)] + rows[1:]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows)
