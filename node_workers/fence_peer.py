"""What DRBD's kernel runs when a primary has lost a peer: ask the worker, and wait for its word.

    python -I -S fence_peer.py SOCKET VOLUME UID

While it runs nothing that was written is acknowledged. Its exit status is what the kernel goes by
(drbd.conf(5), "fence-peer"): 4, the peer is outdated, go on; 6, the peer has gone on, so that this
side, if it is not primary, is outdated itself, and if it is, stays as it is until it is taken down;
1, nothing is known, stay as you are. It has to start fast, so there is nothing of ours in it.
"""

import os
import socket
import sys
import time

GRANTED, LOST, UNKNOWN = 4, 6, 1

_PATIENCE_S = 600.0
_PAUSE_S = 0.5
_ANSWER_TIMEOUT_S = 30.0
_ANSWER_BYTES_MAX = 64
# Of enum drbd_conns (linux/drbd.h), those of a peer that is there.
_THERE = frozenset(
    ("Connected", "SyncSource", "SyncTarget", "VerifyS", "VerifyT", "PausedSyncS", "PausedSyncT")
)
_STATUSES = {b"granted": GRANTED, b"lost": LOST}


def main() -> int:
    """Ask until there is a verdict, or patience ends."""
    path, volume, uid = sys.argv[1:4]
    peer = _peer()
    # These are names of ours, and hold nothing that JSON would have to escape.
    question = f'{{"volume":"{volume}","uid":"{uid}","peer":"{peer}"}}\n'.encode()
    ends_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends_s:
        status = _STATUSES.get(_ask(path, question))
        if status is not None:
            return status
        time.sleep(_PAUSE_S)
        if _is_back(os.environ.get("DRBD_MINOR", "")):
            # Who asked now would have the log take from the peer what it has never lost.
            return UNKNOWN
    return UNKNOWN


def _peer() -> str:
    """Return the peer that is missed: 8.4 names it, 9 tells its number beside all the names."""
    number = os.environ.get("DRBD_PEER_NODE_ID", "")
    named = os.environ.get(f"DRBD_NODE_ID_{number}", "") if number else ""
    return named or os.environ.get("DRBD_PEER") or os.environ.get("DRBD_PEERS", "")


def _is_back(minor: str) -> bool:
    """Return whether the peer is connected again, as far as /proc/drbd tells: 9 does not."""
    try:
        with open("/proc/drbd") as lines:  # noqa: PTH123
            words = [line.split() for line in lines]
    except OSError:
        return False
    states = [line[1] for line in words if line[:1] == [f"{minor}:"] and len(line) > 1]
    return any(state.removeprefix("cs:") in _THERE for state in states)


def _ask(path: str, question: bytes) -> bytes:
    """Return the worker's word, or nothing if it is away."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
            talk.settimeout(_ANSWER_TIMEOUT_S)
            talk.connect(path)
            talk.sendall(question)
            return talk.recv(_ANSWER_BYTES_MAX).strip()
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main())
