"""A simulated machine in a folder: all of its state in one file."""

import os
from pathlib import Path

import msgspec

from node_workers.simulated.model import State

STATE_FILE = "machine.json"


def write_down(state: State, folder: Path) -> None:
    """Have the state there: wholly or not at all, and durably."""
    kept, data = folder / STATE_FILE, msgspec.json.encode(state)
    if kept.exists() and kept.read_bytes() == data:
        return
    new = folder / f"{STATE_FILE}.new"
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(kept)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_again(state: State, folder: Path) -> None:
    """Have *state* as it is written down by now, by whoever did that."""
    kept = folder / STATE_FILE
    if not kept.exists():
        return
    found = msgspec.json.decode(kept.read_bytes(), type=State)
    for field in State.__struct_fields__:
        setattr(state, field, getattr(found, field))
