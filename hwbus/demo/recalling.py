"""Chapter sixteen: the past is asked, and what it says is proven to somebody who trusts nobody."""

import asyncio
import base64
import os
import sys
import time

import msgspec

from hwbus.demo.forming import ORDERS
from hwbus.demo.stage import ACTOR, Row, Stage
from hwbus.demo.surviving import ACCOUNTS
from hwbus.demo.teller import NotSoError
from hwbus.streams import EVENTS

_SIGNED_S = 75.0
_POLL_S = 0.5
_PROVISION, _SILENT = "volume.provision.v1", "node.report-silent.v1"


async def the_past_answers(stage: Stage) -> None:
    """Ask who made a volume that is gone, and why it was there; look back; prove it."""
    stage.teller.chapter("The past answers: who, why there, how was it before, and is that true")
    made = await _why(stage)
    await _before(stage)
    await _proof(stage, made)


async def _why(stage: Stage) -> int:
    """Return where in the log it stands that the volume was to be made."""
    teller = stage.teller
    rows = await stage.rows("audit", object=f"volume/{ORDERS}", kind="accepted")
    wish = next(row for row in rows if row["word"] == _PROVISION)
    said = await stage.hwbus("volume", "why", ORDERS)
    teller.check(
        f"actor       {ACTOR}" in said.out and wish["command"] in said.out,
        f"{ORDERS} is gone; {ACTOR} had it made, and these were the places for it",
        said.out,
    )
    return int(wish["seq"])


async def _before(stage: Stage) -> None:
    """Show the volumes as they were before the node was lost, or before one was deleted."""
    teller, name = stage.teller, ACCOUNTS if stage.place.measures else ORDERS
    if stage.place.measures:
        silent = await stage.rows("audit", object="node/n1", kind="accepted")
        before = min(int(row["seq"]) for row in silent if row["word"] == _SILENT) - 1
        what = "before n1 was missed"
    else:
        rows = await stage.rows("audit", object=f"volume/{ORDERS}", kind="accepted")
        before = max(int(r["seq"]) for r in rows if r["word"] == "volume.delete.v1") - 1
        what = "before it was deleted"
    await stage.hwbus("volume", "ls", "--at", str(before))
    said = await stage.hwbus("volume", "ls", "--at", str(before), "-o", "json", show=False)
    then: list[Row] = msgspec.json.decode(said.out)["items"]
    found = next((row for row in then if row["name"] == name), {})
    teller.check(
        found.get("node") == ("n1" if stage.place.measures else found.get("node", "")),
        f"{what} {name} was on {found.get('node')}, {found.get('state')}",
        f"{then}",
    )
    teller.check(
        name not in {row["name"] for row in await stage.rows("volumes")},
        "now it is gone",
        "it is there",
    )


async def _proof(stage: Stage, seq: int) -> None:
    teller, file = stage.teller, stage.place.home / "made.proof.json"
    await _until_signed(stage, seq)
    await stage.hwbus("audit", "verify")
    await stage.hwbus("audit", "prove", str(seq), "--to", str(file))
    key = (await stage.hwbus("audit", "key")).out.split()[0]
    held = await _checked(file, key)
    teller.check(
        held == 0, "a program that knows the key, and no cluster, finds it true", f"{held}"
    )
    proof = msgspec.json.decode(file.read_bytes())
    data = base64.b64decode(proof["message"]["data"]).replace(ACTOR.encode(), b"mallory")
    proof["message"]["data"] = base64.b64encode(data).decode()
    file.write_bytes(msgspec.json.encode(proof))
    forged = await _checked(file, key)
    teller.same(forged, 1, "with another name in it, it does not hold")


async def _until_signed(stage: Stage, seq: int) -> None:
    deadline = time.monotonic() + _SIGNED_S
    while time.monotonic() < deadline:
        said = await stage.hwbus("audit", "heads", "--last", show=False)
        heads = [msgspec.json.decode(line) for line in said.out.splitlines()]
        if any(head["stream"] == EVENTS.name and head["seq"] >= seq for head in heads):
            return
        await asyncio.sleep(_POLL_S)
    raise NotSoError(f"message {seq} is signed within {_SIGNED_S:.0f} s")


async def _checked(file: os.PathLike[str], key: str) -> int:
    """Return the exit status of the checker, which is not told where the cluster is."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "hwbus.proof", file, "--key", key),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    return await process.wait()
