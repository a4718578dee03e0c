"""How the audit is: signed, with logins in it, and what is no more of it."""

import msgspec

from hwbus.cli.exits import Exit
from hwbus.cli.finding import Finding
from hwbus.cli.paint import local
from hwbus.cli.world import Link, world
from schemas.audit import Hearing, HearingRecord

_UNSIGNED_S = 600.0
_TO_HEAR = "Give the control plane --system-login, a login of the broker's system account."


class _Head(msgspec.Struct, frozen=True):
    seq: int


async def signed(link: Link) -> Finding:
    """Return how far the events are signed."""
    last = await link.audit.last("hwbus.audit.head.*")
    signed = 0 if last is None else msgspec.json.decode(last.data, type=_Head).seq
    first = await link.log.get(signed + 1)
    late = first is not None and (world().clock.now() - first.at).total_seconds() > _UNSIGNED_S
    return Finding(
        what="signed heads",
        state="trouble" if late else "ok",
        found=f"up to {signed}" + (f", nothing since {local(first.at)}" if late and first else ""),
        fix="The control plane's log says why no head is signed: hwbus.notary." if late else "",
        exit=Exit.FAILED,
    )


async def logins(link: Link) -> Finding:
    """Return whether logins are heard, as the control plane said last."""
    what = "logins"
    last = await link.audit.last("hwbus.audit.hearing.logins")
    if last is None:
        none = "not heard: no control plane said that it hears of them"
        return Finding(what=what, state="advice", found=none, fix=_TO_HEAR)
    said = msgspec.json.decode(last.data, type=HearingRecord)
    if said.state in {Hearing.BEGAN, Hearing.AGAIN}:
        return Finding(what=what, state="ok", found=f"heard since {local(said.at)}")
    because = f": {said.because}" if said.because else ""
    found = f"{said.state} since {local(said.since or said.at)}{because}"
    if said.state is Hearing.OFF:
        return Finding(what=what, state="advice", found=f"not heard{because}", fix=_TO_HEAR)
    if said.state is Hearing.MISSED:
        found = f"{said.missed} missed at {local(said.at)}{because}"
        return Finding(what=what, state="advice", found=found, fix="hwbus audit --kind login")
    if said.state is Hearing.STOPPED:
        fix = (
            "One control plane was stopped. If another one hears, all is well: hwbus_logins_heard."
        )
        return Finding(what=what, state="advice", found=found, fix=fix)
    fix = "The control plane's log says why, at hwbus.doorkeeper."
    return Finding(what=what, state="trouble", found=found, fix=fix, exit=Exit.FAILED)


async def pruned(link: Link) -> list[Finding]:
    """Return what was pruned of the audit, and whether somebody recorded why."""
    from hwbus.cli.released import releases_in, remains

    left = remains(await link.audit.first(), await releases_in(link))
    if left.first == 1:
        return []
    what = "audit"
    if left.release is None:
        gone = f"messages 1 to {left.first - 1} are gone, and nobody recorded why"
        look = "hwbus audit verify tells more, and what an archive has of it."
        return [Finding(what=what, state="trouble", found=gone, fix=look, exit=Exit.FAILED)]
    note = "Views that are made on another machine, or by another version, have no rows of these."
    return [Finding(what=what, state="ok", found=str(left.release), fix=note)]
