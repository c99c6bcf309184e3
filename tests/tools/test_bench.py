"""bench/figures.py: marker lines, medians, ratios, means and tables; and the limits of the native peer."""
import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import figures  # noqa: E402
import peers  # noqa: E402
import run  # noqa: E402

ENTRIES = "# names\n\nfirst  integer  do one\nother  float    do two; and three\nlast   kernel   x\n"
RUN = """\
[    0.1] a line of the kernel
BENCH init begin
BENCH cpu features fpu sse2 avx2
BENCH first begin
BENCH first end
BENCH first sum 00ff
BENCH other begin
\x1b[0mBENCH other end\r
BENCH other used 0.012345
BENCH other sum 1234
BENCH last begin
BENCH last end
BENCH last failed 256
BENCH done
"""


def markers_of(text, step=1.0):
    """Feed lines that come `step` seconds apart, each after 0.25 CPU seconds."""
    markers = figures.Markers()
    ended = [markers.take(line, i * step, i * 0.25) for i, line in enumerate(text.splitlines())]
    return markers, [name for name in ended if name]


def test_entries():
    assert figures.read_entries(ENTRIES) == {"first": "integer", "other": "float", "last": "kernel"}


@pytest.mark.parametrize("text", ["a integer x\na float y\n", "a nothing x\n", "a integer\n"])
def test_bad_entries(text):
    with pytest.raises(ValueError, match="entries, line"):
        figures.read_entries(text)


def test_entries_of_the_image():
    """The list that is used: all classes, and what the scaling mode and --quick name."""
    entries = figures.read_entries((ROOT / "bench" / "guest" / "entries").read_text())
    assert set(entries.values()) == set(figures.CLASSES)
    assert set(figures.SCALING) <= set(entries)
    assert not set(figures.BOOT) & set(entries)


def test_markers():
    markers, ended = markers_of(RUN, 2.0)
    assert markers.done
    assert markers.init == (2.0, 0.25)
    assert markers.features == ("fpu", "sse2", "avx2")
    assert ended == ["init", "first", "other", "last"]
    assert markers.seconds == {"first": 2.0, "other": 2.0}
    assert markers.cpu_seconds == {"first": 0.25, "other": 0.012345}
    assert markers.sums == {"first": "00ff", "other": "1234"}
    assert markers.failures == ["last failed: 256"]


def test_markers_of_a_run_that_breaks_off():
    markers, ended = markers_of(RUN[:RUN.index("BENCH other end")])
    assert (markers.done, ended, list(markers.seconds)) == (False, ["init", "first"], ["first"])


def test_end_without_begin():
    assert markers_of("BENCH first end\nBENCH first begin\nBENCH other end\n")[0].seconds == {}


def test_copies_that_disagree():
    markers, _ = markers_of("BENCH first begin\nBENCH first end\nBENCH first sum 1\nBENCH first sum 2\n")
    assert markers.failures == ["first: two copies gave 1 and 2"]


def results_of(times, sums=None):
    """{peer: {entry: [seconds...]}} as Results; CPU seconds are half of the seconds."""
    results = figures.Results(figures.read_entries(ENTRIES))
    for peer, entries in times.items():
        for name, runs in entries.items():
            for seconds in runs:
                markers = figures.Markers()
                markers.seconds, markers.cpu_seconds = {name: seconds}, {name: seconds / 2}
                markers.sums = {name: (sums or {}).get((peer, name), "0")}
                results.add(peer, markers)
    return results


TIMES = {"jit": {"first": [1.0, 9.0, 2.0], "other": [1.0], "last": [4.0]},
         "qemu": {"first": [8.0], "other": [40.0], "last": [4.0]},
         "native": {"first": [1.0], "other": [0.5]}}


def test_ratios_and_means():
    against = figures.summary(results_of(TIMES), list(TIMES), ["jit"])["against"]["seconds"]["jit"]
    assert against["qemu"]["entries"] == {"first": 4.0, "other": 40.0, "last": 1.0}
    assert against["qemu"]["means"]["float"] == pytest.approx(40)
    assert against["qemu"]["means"]["interpreter"] is None
    assert against["qemu"]["means"]["all"] == pytest.approx((4 * 10 * 1) ** (1 / 3))  # 40 counts as 10
    assert against["native"]["entries"] == {"first": 2.0, "other": 2.0, "last": None}
    assert against["native"]["means"]["all"] == pytest.approx(2)


def test_table():
    rows = figures.rows_of(results_of(TIMES), list(TIMES), ["jit"])
    assert rows[0] == ["seconds", "jit", "qemu", "native", "times as fast as qemu", "times as long as native"]
    assert ["  first", "2.000", "8.000", "1.000", "4.00", "2.00"] in rows
    assert ["  last", "4.000", "4.000", "-", "1.00", "-"] in rows
    assert ["kernel-bound:", "", "", "", "1.00", "-"] in rows
    text = figures.layout(rows).splitlines()
    assert text[0].split() == ["seconds", "jit", "qemu", "native", "times", "as", "fast", "times", "as", "long"]
    assert all(len(line) <= len(text[0]) for line in text)
    cpu = figures.rows_of(results_of(TIMES), list(TIMES), ["jit"], "cpu_seconds")
    assert ["  first", "1.000", "4.000", "0.500", "4.00", "2.00"] in cpu


def test_table_of_two_engines():
    """The second is compared with the first too."""
    rows = figures.rows_of(results_of({"jit": {"first": [2.0]}, "interp": {"first": [5.0]}, "qemu": {"first": [6.0]}}),
                           ["jit", "interp", "qemu"], ["jit", "interp"])
    assert rows[0][4:] == ["jit: times as fast as qemu", "interp: times as fast as qemu", "interp: times as long as jit"]
    assert ["  first", "2.000", "5.000", "6.000", "3.00", "1.20", "2.50"] in rows


def test_variants():
    assert run.variant("small=--jit-cache 4M") == ("small", ["--jit-cache", "4M"])
    for bad in ("small", "qemu=--x", "a b=--x"):
        with pytest.raises(argparse.ArgumentTypeError):
            run.variant(bad)


def test_table_without_peers():
    assert ["  first", "2.000"] in figures.rows_of(results_of({"jit": TIMES["jit"]}), ["jit"], ["jit"])


def test_different_results_are_failures():
    results = results_of(TIMES, {("qemu", "other"): "bad"})
    results.compare_sums()
    assert results.failures == ["other: the results differ: jit 0, qemu bad, native 0"]
    again = figures.Markers()
    again.sums = {"first": "1"}
    results.add("jit", again)
    assert results.failures[-1] == "jit: first gave 1, and 0 in an earlier round"


def test_scaling():
    one, two = results_of({"jit": {"first": [2.0], "other": [1.0]}}), results_of({"jit": {"first": [2.2], "other": [1.1]}})
    rows, ratios = figures.scaling_rows(one, two, ["jit"], 2)
    assert rows[1] == ["first", "2.000", "2.200", "1.10"]
    assert rows[-1] == ["all", "", "", "1.10"]
    assert ratios["jit"]["last"] is None


def test_counters():
    """Of two vCPUs, before and after an entry."""
    before = figures.flatten([{"instructions": 5, "exits": {"memory": 1}}, {"instructions": 6, "exits": {"memory": 0}}])
    assert before == {"instructions": 11, "exits.memory": 1}
    after = figures.flatten([{"instructions": 3000011, "exits": {"memory": 1, "kick": 4000},
                              "translated": {"guest_bytes": 10, "host_bytes": 25, "expansion_percent": 250}}])
    counters = figures.counted(before, after)
    assert counters == {"instructions": 3000000, "exits.kick": 4000, "translated.guest_bytes": 10, "translated.host_bytes": 25}
    results = results_of({"jit": TIMES["jit"]})
    results.entries["first"]["counters"] = {"jit": counters}
    assert figures.counter_rows(results, "jit")[1:] == [["first", "0", "0", "2.5", "0", "4", "kick"]]


def test_limits_of_native():
    assert peers.limits(["avx2"], ["avx2", "sse"]) == {"OPENSSL_ia32cap": "~0x0:~0x0"}
    limits = peers.limits(["avx2", "avx512f", "sha_ni", "aes"], ["avx2"])
    assert limits == {"OPENSSL_ia32cap": f"~0x{1 << 57:x}:~0x{1 << 29 | 1 << 16:x}",
                      "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F"}


class Script(peers.Peer):
    """A peer that is a shell script."""

    def __init__(self, script, serial=None, stays=False):
        self.script, self.serial, self.stays = script, serial, stays

    def command(self, append, cpus):
        return ["sh", "-c", self.script, "sh", append, cpus]


def test_measure():
    """Times and CPU times of the peer and its children, by real clocks; the words for the guest arrive."""
    calls = []
    busy = 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done'
    markers, seconds, cpu = run.measure(Script(
        f"echo BENCH init begin; echo BENCH $1 begin; ({busy}); sleep 0.1; echo BENCH $1 end; echo BENCH $1 sum $2; echo BENCH done"),
        "first", 2, 60, at_end=lambda pid, name: calls.append((pid > 0, name)))
    assert (markers.done, markers.failures, markers.sums, calls) == (
        True, [], {"first": "2"}, [(True, "init"), (True, "first")])
    assert 0.1 < markers.seconds["first"] <= seconds
    assert 0 < cpu <= seconds + 0.1


@pytest.mark.parametrize("script", ["echo BENCH first begin; sleep 1000 & sleep 1000", "echo BENCH first begin; exit 3"])
def test_measure_a_peer_that_does_not_finish(script):
    """It hangs, with a child that holds the pipe open too; or it ends early."""
    markers, seconds, _ = run.measure(Script(script), "", 1, 1)
    assert not markers.done and seconds < 60
    assert markers.failures == ["the guest did not come to its end; the end of its console:\nBENCH first begin\n"]


@pytest.mark.parametrize("script,done", [("exec >$1; echo BENCH done; exec sleep 1000", True), ("exit 1", False)])
def test_measure_through_a_fifo(tmp_path, script, done):
    """A peer that stays when the guest is done, and one that never opens the FIFO."""
    os.mkfifo(tmp_path / "serial")
    markers, seconds, _ = run.measure(Script(script, tmp_path / "serial", stays=True), tmp_path / "serial", 1, 50)
    assert markers.done == done and seconds < 40


def test_the_data_is_always_the_same(tmp_path):
    """The data of the entries, twice, by processes whose hashes differ; OpenSSL finds the key good."""
    for seed in ("1", "2"):
        subprocess.run([sys.executable, ROOT / "bench" / "guest" / "make-data.py", tmp_path / seed], check=True,
                       env={"PYTHONHASHSEED": seed})
    for name in ("functions.c", "text", "rsa.der"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    subprocess.run(["openssl", "rsa", "-inform", "DER", "-in", tmp_path / "1" / "rsa.der", "-check", "-noout"], check=True,
                   capture_output=True)
    assert (tmp_path / "1" / "functions.c").read_text().count("__attribute__") == 250
