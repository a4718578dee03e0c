"""What a look at DRBD makes of the files that lie there, whoever has put them there."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from hwbus.identity import SystemClock
from node_workers import drbd_config
from node_workers.drbd_config import Note, Place
from node_workers.drbd_tools import LOOK, DrbdTools, Look
from node_workers.ports import Execution, RefusedToTouchError
from node_workers.replication import Member, ReplicationSpec
from node_workers.runner import RealRunner

MEMBERS = tuple(
    Member(node=f"n{n}", index=n - 1, address=f"198.51.100.{n}", port=7800, minor=1000, key="")
    for n in (1, 2)
)
SPEC = ReplicationSpec(volume="pg", uid="uid-pg", pool="fast", size_bytes=64 << 20, members=MEMBERS)
NOTE = Note(spec=SPEC, places=(Place(leg_bytes=68 << 20, size_bytes=64 << 20),))
OURS = f"{drbd_config.NOTE}{msgspec.json.encode(NOTE).decode()}\nresource {{ secret }}\n"


class Elsewhere:
    """Runs the driver's own script on this machine, with its folders below another one."""

    def __init__(self, below: Path) -> None:
        self.inner = RealRunner(SystemClock().now, os.environ)
        self.folders = {
            drbd_config.FOLDER: str(below / "files"),
            drbd_config.SPLITS: str(below / "splits"),
        }

    async def run(
        self, argv: Sequence[str], *, cause: str, timeout_s: float, stdin: bytes = b""
    ) -> Execution:
        assert tuple(argv) == LOOK
        script = argv[2]
        for there, here in self.folders.items():
            script = script.replace(there, here)
        done = await self.inner.run(
            (*argv[:2], script), cause=cause, timeout_s=timeout_s, stdin=stdin
        )
        out = done.stdout
        for there, here in self.folders.items():
            out = out.replace(here, there)
        return replace(done, stdout=out)


def looked(below: Path, files: dict[str, str], splits: Sequence[str] = ()) -> Look:
    for folder, texts in (("files", files), ("splits", dict.fromkeys(splits, ""))):
        (below / folder).mkdir()
        for name, text in texts.items():
            (below / folder / name).write_text(text)
    return asyncio.run(DrbdTools(Elsewhere(below)).look(cause="event:1"))


def test_our_files_are_known_by_their_first_lines_and_others_are_nobodys(tmp_path: Path) -> None:
    header = f"==> {drbd_config.FOLDER}/hwbus-pg.res <=="
    look = looked(
        tmp_path,
        {
            "hwbus-a.res": "",
            "hwbus-b.res": "\n",
            "hwbus-c.res": f"{header}\n{OURS}",
            "hwbus-d.res": "exists resource name:hwbus-pg role:Primary suspended:no\n",
            "hwbus-e.res": "json",
            "hwbus-pg.res": OURS,
            "hwbus-z.res": "",
            "other.res": OURS,
        },
        splits=("uid-pg",),
    )
    assert look.notes == {"pg": NOTE} | dict.fromkeys("abcdez")
    assert look.splits == {"uid-pg"}
    assert look.resources == {}
    assert look.note("pg", SPEC.uid) == NOTE
    with pytest.raises(RefusedToTouchError, match=r"hwbus-c\.res is of nobody we know"):
        look.note("c", SPEC.uid)


def test_where_nothing_lies_there_is_nothing(tmp_path: Path) -> None:
    look = looked(tmp_path, {})
    assert (look.notes, look.splits, look.resources) == ({}, frozenset(), {})
