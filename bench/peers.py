"""How each peer of `make bench` runs the image: a command, and what has to be there for it."""
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

MEMORY = 1024  # MiB
COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off"

# What a CPU feature of /proc/cpuinfo is called by the C library (glibc.cpu.hwcaps) ...
GLIBC_NAMES = {"avx512f": "AVX512F", "avx512vl": "AVX512VL", "avx512bw": "AVX512BW", "avx512dq": "AVX512DQ",
               "avx512cd": "AVX512CD", "avx2": "AVX2", "avx": "AVX", "fma": "FMA", "bmi1": "BMI1", "bmi2": "BMI2",
               "erms": "ERMS", "movbe": "MOVBE", "abm": "LZCNT", "rtm": "RTM", "xsavec": "XSAVEC"}
# ... and where it is in OPENSSL_ia32cap: (which of its two words, bit). CPUID 1 EDX and ECX; 7 EBX and ECX.
OPENSSL_BITS = {"pclmulqdq": (0, 33), "ssse3": (0, 41), "fma": (0, 44), "sse4_1": (0, 51), "sse4_2": (0, 52),
                "movbe": (0, 54), "aes": (0, 57), "avx": (0, 60), "rdrand": (0, 62),
                "bmi1": (1, 3), "avx2": (1, 5), "bmi2": (1, 8), "avx512f": (1, 16), "avx512dq": (1, 17),
                "rdseed": (1, 18), "adx": (1, 19), "avx512ifma": (1, 21), "avx512cd": (1, 28), "sha_ni": (1, 29),
                "avx512bw": (1, 30), "avx512vl": (1, 31), "avx512vbmi": (1, 33), "avx512_vbmi2": (1, 38),
                "gfni": (1, 40), "vaes": (1, 41), "vpclmulqdq": (1, 42)}


class Unavailable(Exception):
    """A peer can't run here; the text says why."""


class Peer:
    """What bench/run.py asks of each: command(append, cpus), and these."""
    once = False  # too slow for more than one round
    stays = False  # does not end when the guest powers off
    serial = None  # a FIFO that the guest's console goes to; else standard output


class Plastron(Peer):
    """The program, with one engine."""

    def __init__(self, engine, program, image, words):
        self.engine, self.program, self.image, self.words = engine, program, image, words
        self.name = f"bench-{os.getpid()}"
        if not program.exists():
            raise Unavailable(f"no {program}")

    def command(self, append, cpus):
        return [self.program, "run", "--engine", self.engine, "--memory", f"{MEMORY}M", "--cpus", cpus, "--name", self.name,
                "--kernel", self.image.kernel, "--initrd", self.image.initrd, "--append", f"{COMMAND_LINE} root=/dev/vda {append}",
                "--disk", f"{self.image.disk},format=raw,if=virtio,snapshot=on", "--no-reboot", *self.words]


    def counters(self):
        """What the translator of the running guest has counted, as JSON's facts; {} if it is not there."""
        result = subprocess.run([self.program, "info", self.name, "jit", "--json"], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, check=False)
        return json.loads(result.stdout) if result.returncode == 0 else {}


class Qemu(Peer):
    """QEMU's translator, on one host thread if there is one vCPU."""

    def __init__(self, image):
        self.image = image
        if not shutil.which("qemu-system-x86_64"):
            raise Unavailable("qemu-system-x86 is not installed")

    def command(self, append, cpus):
        return ["qemu-system-x86_64", "-accel", f"tcg,thread={'single' if cpus == 1 else 'multi'}", "-cpu", "max", "-smp",
                cpus, "-m", MEMORY, "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", self.image.kernel,
                "-initrd", self.image.initrd, "-append", f"{COMMAND_LINE} root=/dev/vda {append}", "-drive",
                f"file={self.image.disk},format=raw,if=virtio,snapshot=on", "-no-reboot"]


class Bochs(Peer):
    """The kernel from a CD, the image as an IDE disk; at the guest's power-off it waits in its debugger."""
    once = True
    stays = True

    def __init__(self, image, folder):
        self.image, self.folder = image, folder
        self.serial = folder / "bochs.serial"
        for program in ("bochs", "xorriso"):
            if not shutil.which(program):
                raise Unavailable(f"{program} is not installed")
        for name in ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"):
            if not Path(name).exists():
                raise Unavailable(f"no {name}: isolinux and syslinux-common are not installed")

    def command(self, append, cpus):
        if cpus != 1:
            raise Unavailable("Bochs runs one vCPU here")
        tree = self.folder / "iso"
        tree.mkdir(exist_ok=True)
        for source in ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32", self.image.kernel):
            shutil.copy(source, tree)
        with open(tree / "initrd.img", "wb") as f:
            for part in (self.image.initrd, self.image.ide):
                content = part.read_bytes()
                f.write(content + bytes(-len(content) % 512))
        (tree / "isolinux.cfg").write_text("default linux\nprompt 0\ntimeout 0\nlabel linux\nkernel /vmlinuz\n"
                                           f"append initrd=/initrd.img {COMMAND_LINE} root=/dev/sda {append}\n")
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", self.folder / "bochs.iso", "-b", "isolinux.bin", "-c",
                        "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", tree], check=True,
                       stderr=subprocess.DEVNULL)
        (self.folder / "bochsrc").write_text(f"""\
megs: {MEMORY}
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=disk, path={self.image.disk}, mode=volatile, journal={self.folder}/bochs.redolog
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path={self.folder}/bochs.iso, status=inserted
boot: cdrom
display_library: rfb, options="timeout=0"
com1: enabled=1, mode=file, dev={self.serial}
cpu: model=corei7_haswell_4770, ips=200000000
clock: sync=none
plugin_ctrl: speaker=0, gameport=0, parallel=0
sound: driver=dummy
log: {self.folder}/bochs.log
""")
        (self.folder / "bochs.commands").write_text("c\n")
        self.serial.unlink(missing_ok=True)
        os.mkfifo(self.serial)
        return ["bochs", "-q", "-f", self.folder / "bochsrc", "-rc", self.folder / "bochs.commands"]


class Native(Peer):
    """The image's tree in a chroot, on as many host CPUs as the guest has, limited to the features of a guest's CPU."""

    # From the most to the least that a host allows: (words before, whether /dev, /proc and /tmp can be mounted).
    WAYS = [(["unshare", "-m"], True), (["unshare", "-rm"], True), ([], False), (["unshare", "-r"], False)]

    def __init__(self, image):
        self.image = image
        for self.before, self.mounts in self.WAYS:
            command = self.before + ["sh", "-c", self.script("/bench/work crc32"), "sh", str(image.tree)]
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if result.returncode == 0 and result.stdout.startswith("crc32"):
                break
        else:
            raise Unavailable("no chroot here: neither as root nor with `unshare -r`: " +
                              (result.stderr.strip().splitlines() or ["no message"])[-1])
        self.note = "" if self.mounts else "without /dev, /proc and a tmpfs, which may not be mounted here"

    def script(self, rest):
        mounts = ('mount --rbind /dev "$1/dev" && mount --rbind /proc "$1/proc" && mount -t tmpfs tmpfs "$1/tmp" && '
                  if self.mounts else "")
        return f'{mounts}exec chroot "$1" {rest}'

    def command(self, append, cpus):
        available = sorted(os.sched_getaffinity(0))[:cpus]
        return ["taskset", "-c", ",".join(map(str, available)), *self.before, "sh", "-c",
                self.script(f"/bench/init {append}"), "sh", self.image.tree]


def limits(host, guest):
    """The environment that hides the CPU features of the host that the guest does not have."""
    missing = set(host) - set(guest)
    masks = [sum(1 << bit for name, (which, bit) in OPENSSL_BITS.items() if which == word and name in missing)
             for word in (0, 1)]
    environment = {"OPENSSL_ia32cap": ":".join(f"~0x{mask:x}" for mask in masks)}
    names = [f"-{GLIBC_NAMES[name]}" for name in GLIBC_NAMES if name in missing]
    if names:
        environment["GLIBC_TUNABLES"] = "glibc.cpu.hwcaps=" + ",".join(names)
    return environment


def host_features():
    match = re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.M)
    return match[1].split() if match else []
