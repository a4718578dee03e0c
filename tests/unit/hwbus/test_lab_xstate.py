"""Processors that are too new for User Mode Linux are recognised, and helped."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from hwbus.lab.uml import xstate

OLD = "processor\t: 0\nflags\t\t: fpu avx512f pku ospke\nbogomips\t: 4200.00\n"
NEW = OLD.replace("ospke", "ospke amx_bf16 amx_tile")

# Reads a stopped child's extended registers into a buffer that is too short on new processors, and
# writes them back, as User Mode Linux does.
_AS_THE_KERNEL_DOES = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_ulong)]
child = os.fork()
if not child:
    libc.ptrace(0, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(int(sum(0.5 for _ in range(84))))
os.waitpid(child, os.WUNTRACED)
buffer = ctypes.create_string_buffer(2696)
for request in (0x4204, 0x4205, 0x4204, 0x4205):
    piece = Piece(ctypes.addressof(buffer), len(buffer))
    done = libc.ptrace(request, child, ctypes.c_void_p(0x202), ctypes.byref(piece))
    print(request, done, ctypes.get_errno() if done else 0)
libc.ptrace(7, child, None, None)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize(("cpuinfo", "needed"), [(OLD, False), (NEW, True), ("", False)])
def test_a_processor_with_more_registers_than_the_kernel_knows_is_recognised(
    cpuinfo: str, needed: bool
) -> None:
    assert xstate.needed(cpuinfo) is needed


@pytest.mark.lab
def test_registers_that_were_read_in_part_can_be_written_back(tmp_path: Path) -> None:
    # A processor that needs no help has the same test to pass without.
    library = str(asyncio.run(xstate.build(tmp_path))) if xstate.needed() else ""
    done = subprocess.run(
        [sys.executable, "-c", _AS_THE_KERNEL_DOES],
        env={"LD_PRELOAD": library},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["16900 0 0", "16901 0 0", "16900 0 0", "16901 0 0", "42"]
