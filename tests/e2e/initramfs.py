"""Programs of the host in an initramfs for the small guest."""
import re
import shutil
import subprocess


def add_program(root, program, target):
    """Copy a program of the host to `target` in the tree `root`, and the libraries that it wants to where it looks for them."""
    for line in subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines():
        path = re.search(r"(/\S+)", line)
        if path:
            library = root / path[1].lstrip("/").removeprefix("usr/")
            library.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path[1], library)
    target = root / target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, target)


def pack(root):
    """The tree as an archive that the kernel unpacks over the one before it."""
    names = subprocess.run(["find", "."], cwd=root, capture_output=True, check=True).stdout
    return subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=root, input=names, capture_output=True,
                          check=True).stdout
