#!/usr/bin/python3
"""Unpack the ELF kernel inside an LZ4-compressed bzImage: extract-vmlinux.py BZIMAGE OUTPUT

Debian's cloud kernel is packed with LZ4; the ELF file has the PVH note that the PVH loader wants. The payload's place
is in the boot header (payload_offset at 248h, payload_length at 24Ch, setup_sects at 1F1h).
"""
import struct
import subprocess
import sys

LZ4_LEGACY_MAGIC = b"\x02\x21\x4c\x18"


def main(source, output):
    with open(source, "rb") as f:
        image = f.read()
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start:start + length]
    if not payload.startswith(LZ4_LEGACY_MAGIC):
        sys.exit(f"{source}: payload is not LZ4")
    # The last four bytes are the unpacked size, which the lz4 program takes for one more (bad) block.
    size = struct.unpack("<I", payload[-4:])[0]
    unpacked = subprocess.run(["lz4", "-dc", "-q"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    if len(unpacked) != size or not unpacked.startswith(b"\x7fELF"):
        sys.exit(f"{source}: payload did not unpack to an ELF file of {size} bytes")
    with open(output, "wb") as f:
        f.write(unpacked)


if __name__ == "__main__":
    main(*sys.argv[1:])
