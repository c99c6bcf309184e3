"""Multiboot kernels of a few instructions, for what Linux does not do: written as bytes, with their assembly beside."""
import struct

LOAD = 0x100000
MAGIC, FLAGS = 0x1BADB002, 1 << 16  # the header gives the load addresses (a.out kludge)
HEADER = 32


def multiboot(*code):
    """A multiboot 1 kernel that runs `code` at ENTRY in 32-bit protected mode."""
    code = b"".join(code)
    end = LOAD + HEADER + len(code)
    header = struct.pack("<8I", MAGIC, FLAGS, -(MAGIC + FLAGS) & 0xFFFFFFFF, LOAD, LOAD, end, end, LOAD + HEADER)
    return header + code


ENTRY = LOAD + HEADER
EXIT = 0xF4  # the port of --debug-exit
HALT = bytes.fromhex("faf4ebfd")  # cli; 1: hlt; jmp 1b


def out(port, value):
    """mov dx, port; mov al, value; out dx, al"""
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def text(port, words):
    """Write text to a port, byte by byte."""
    return b"".join(out(port, byte) for byte in words.encode())


# lidt [esp-8] over two pushed zeros (limit 0), then a breakpoint: no gate, no #GP gate, no double fault gate.
TRIPLE_FAULT = bytes.fromhex("6a006a00" "0f011c24" "cc")

# The same by running into a hole: an address where no memory is reads as ones, which is an invalid instruction.
JUMP_INTO_NOWHERE = bytes.fromhex("6a006a00" "0f011c24") + b"\xb8" + struct.pack("<I", 0xE0000000) + b"\xff\xe0"

# The keyboard controller's reset line.
RESET = out(0x64, 0xFE) + HALT


def every_port(without):
    """Read and write every port with every width, but for those in `without` (pairs of first and last)."""
    # xor ecx, ecx
    code = b"\x31\xc9"
    loop = len(code)
    jumps = []
    for first, last in without:
        # cmp ecx, first; jb 1f; cmp ecx, last; jbe next; 1:
        code += b"\x81\xf9" + struct.pack("<I", first) + b"\x72\x0c" + b"\x81\xf9" + struct.pack("<I", last) + b"\x0f\x86"
        jumps.append(len(code))
        code += bytes(4)
    # mov edx, ecx; in al, dx; in ax, dx; in eax, dx; out dx, al; out dx, ax; out dx, eax; mov eax, -1; the outs again
    code += bytes.fromhex("89ca" "ec" "66ed" "ed" "ee" "66ef" "ef" "b8ffffffff" "ee" "66ef" "ef")
    following = len(code)
    for place in jumps:
        code = code[:place] + struct.pack("<i", following - (place + 4)) + code[place + 4:]
    # inc ecx; cmp ecx, 0x10000; jb loop
    code += b"\x41\x81\xf9" + struct.pack("<I", 0x10000)
    return code + b"\x0f\x82" + struct.pack("<i", loop - (len(code) + 6))


def every_mmio(ranges, step):
    """Read and write memory every `step` bytes of the ranges (first, last) with every width, unaligned ones too."""
    code = b""
    for first, last in ranges:
        # mov edi, first
        code += b"\xbf" + struct.pack("<I", first)
        loop = len(code)
        # mov al,[edi]; mov ax,[edi]; mov eax,[edi]; mov eax,[edi+1]; mov [edi],al; mov [edi],ax; mov [edi],eax;
        # mov [edi+3],eax
        code += bytes.fromhex("8a07" "668b07" "8b07" "8b4701" "8807" "668907" "8907" "894703")
        # add edi, step; cmp edi, last; jb loop
        code += b"\x81\xc7" + struct.pack("<I", step) + b"\x81\xff" + struct.pack("<I", last)
        code += b"\x0f\x82" + struct.pack("<i", loop - (len(code) + 6))
    return code
