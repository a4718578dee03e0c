"""A program on a leash: it is killed when the one who started it dies, however that happens."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> str:
    """Become the program ``argv[1:]``, bound to the life of the process ``argv[0]``.

    Comes back only if that cannot be, with the reason.
    """
    parent, program = int(argv[0]), argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        return f"no leash: {os.strerror(ctypes.get_errno())}"
    # Whoever started us may have died before the leash was on.
    if os.getppid() != parent:
        return "the one who started us is gone"
    return os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
