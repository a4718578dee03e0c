"""``hwbus audit prune``: what may go is told, recorded and taken out; what may not is refused."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwbus.archiving import Archiver
from hwbus.cli.exits import Exit
from hwbus.controller.notary import Notary
from hwbus.places import FolderPlace
from hwbus.ports import Call
from hwbus.streams import AUDIT
from schemas.answers import refuse
from schemas.refusals import Refusal
from schemas.trail import TrailReleased
from tests.support.cli import Done, Stage, accepted
from tests.support.clock import NOON
from tests.support.signing import AuditLog, Signed

INFO, PURGE = "$JS.API.STREAM.INFO.HWBUS_AUDIT", "$JS.API.STREAM.PURGE.HWBUS_AUDIT"
LAST = 8


async def audited(place: FolderPlace, text: str = "n") -> AuditLog:
    """An audit of four records, each signed, all archived: 1, 3, 5, 7; heads behind each."""
    signed = Signed()
    audit = signed.audit
    notary = Notary(audit, audit, audit, signed.clock, signed.key, stream=AUDIT)
    for number in range(4):
        signed.clock.move(60)
        data = f'{{"{text}":{number}}}'.encode()
        await audit.keep("hwbus.audit.executed.n1", data, message_id=str(number))
        await notary.sign()
    await Archiver(audit, audit, place, AUDIT).archive()
    return audit


@pytest.fixture
def kept(stage: Stage, tmp_path: Path) -> Stage:
    async def tale() -> None:
        audit = await audited(FolderPlace(tmp_path / "worm"))
        stored = [await audit.get(seq) for seq in range(1, LAST + 1)]
        stage.kept = [(one.subject, one.data) for one in stored if one is not None]

    asyncio.run(tale())
    stage.clock.move(3600)
    stage.when(INFO, b'{"config":{"deny_purge":false}}')
    stage.when("hwbus.cmd.trail.prune", accepted(operation=""))

    def purged(call: Call, _log: Any) -> Any:
        stage.pruned = json.loads(call.data)["seq"] - 1
        return msgspec.Raw(b'{"success":true,"purged":1}')

    stage.when(PURGE, purged)
    return stage


def prune(stage: Stage, place: Path, *more: str, older_than: str = "0s") -> Done:
    given = ("--archived-in", f"{place}/worm/", "--older-than", older_than, "--yes", *more)
    return stage.run("audit", "prune", *given)


def asked(stage: Stage) -> list[str]:
    return [call.subject for call in stage.heard]


def test_it_goes_to_the_last_head_before_the_newest(kept: Stage, tmp_path: Path) -> None:
    done = prune(kept, tmp_path)
    assert done.code == Exit.OK, done.err
    assert asked(kept) == [INFO, "hwbus.cmd.trail.prune", PURGE]
    said = kept.said(1)
    assert (said["trail"], said["until"], said["place"]) == ("audit", 7, f"{tmp_path}/worm/")
    assert kept.said(2) == {"seq": 8}
    assert "7 of 8 are archived" in done.err


@pytest.mark.parametrize(
    ("older_than", "until"),
    [("2026-01-01T12:03:30Z", 5), ("2026-01-01T12:01:30Z", 1), ("2026-01-01T12:01:00Z", 0)],
)
def test_only_what_is_old_enough_goes(
    kept: Stage, tmp_path: Path, older_than: str, until: int
) -> None:
    done = prune(kept, tmp_path, older_than=older_than)
    assert done.code == Exit.OK, done.err
    assert kept.pruned == until
    assert ("nothing to take out" in done.err) is (until == 0)


def test_a_plan_changes_nothing_and_an_approval_says_how_far(kept: Stage, tmp_path: Path) -> None:
    done = prune(kept, tmp_path, "--plan", "-o", "json")
    [told] = done.json["items"]
    assert (told["until"], told["first"], told["last"]) == (7, 1, 8)
    assert asked(kept) == [INFO]
    kept.when("hwbus.cmd.trail.prune", refuse(Refusal.NEEDS_APPROVAL, "request x"))
    done = prune(kept, tmp_path, "--up-to", "6")
    assert (done.code, "repeat this with --up-to 5" in done.err) == (Exit.REJECTED, True)
    assert kept.pruned == 0
    typed = kept.run(
        *("audit", "prune", "--archived-in", f"{tmp_path}/worm/", "--older-than", "0s"),
        typed="no\n",
        typed_on_tty=True,
    )
    assert (typed.code, kept.pruned) == (Exit.USAGE, 0)


def test_an_archive_of_another_audit_is_refused(kept: Stage, tmp_path: Path) -> None:
    asyncio.run(audited(FolderPlace(tmp_path / "other" / "worm"), text="another"))
    done = prune(kept, tmp_path / "other")
    assert (done.code, "HW-A004" in done.err, kept.pruned) == (Exit.REJECTED, True, 0)
    assert "is another audit" in done.err
    assert asked(kept) == [INFO]


def test_an_archive_that_is_not_whole_is_refused(kept: Stage, tmp_path: Path) -> None:
    [path] = (tmp_path / "worm" / AUDIT.name).iterdir()
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-20])
    done = prune(kept, tmp_path)
    assert (done.code, "HW-A004" in done.err, asked(kept)) == (Exit.REJECTED, True, [])
    path.unlink()
    done = prune(kept, tmp_path)
    assert (done.code, "nothing to take out" in done.err) == (Exit.OK, True)
    assert asked(kept) == [INFO]


def test_what_can_never_go_is_refused_with_its_code(kept: Stage, tmp_path: Path) -> None:
    done = prune(kept, tmp_path, "--stream", "events")
    assert (done.code, "HW-A001" in done.err, asked(kept)) == (Exit.REJECTED, True, [])
    kept.when(INFO, b'{"config":{"deny_purge":true}}')
    done = prune(kept, tmp_path)
    assert (done.code, "HW-A005" in done.err, asked(kept)) == (Exit.REJECTED, True, [INFO])


def test_a_broker_that_refuses_is_told_and_it_may_be_repeated(kept: Stage, tmp_path: Path) -> None:
    kept.when(PURGE, b'{"error":{"code":403,"description":"not permitted to purge stream"}}')
    done = prune(kept, tmp_path)
    assert (done.code, "not permitted to purge" in done.err) == (Exit.FAILED, True)
    assert "repeat the command" in done.err


def test_what_was_recorded_and_not_done_yet_is_told_and_verified(
    kept: Stage, tmp_path: Path
) -> None:
    assert prune(kept, tmp_path).code == Exit.OK
    said = kept.said(1)
    released = TrailReleased(
        **{name: said[name] for name in ("trail", "until", "root", "place")},
        frontier=tuple(said["frontier"]),
        newest=NOON,
    )
    kept.write("hwbus.evt.trail.-.audit", released, actor="ada")
    done = kept.run("audit", "verify")
    assert (done.code, f"messages 1 to 7 are in the archive {tmp_path}/worm/" in done.out) == (
        0,
        True,
    )
    assert "(pruned by ada, " in done.out
    for argv in (("--with-archive", f"{tmp_path}/worm/"), ("--with-archive", str(tmp_path / "x"))):
        joined = kept.run("audit", "verify", *argv)
        assert joined.code == (Exit.OK if "worm" in argv[1] else Exit.USAGE), joined.err
    found = kept.run("doctor", "-o", "json").json["items"]
    [audit] = [one for one in found if one["what"] == "audit"]
    assert (audit["state"], "messages 1 to 7" in audit["found"]) == ("ok", True)
    kept.pruned = 0
    done = kept.run("audit", "verify")
    assert (done.code, "may be taken out, said ada" in done.err) == (0, True)
    assert "in the archive" not in done.out
    kept.pruned = 3
    assert kept.run("audit", "verify").code == 0


def test_what_nobody_recorded_is_a_trouble(kept: Stage) -> None:
    kept.pruned = 3
    assert kept.run("audit", "verify").code == Exit.FAILED
    found = kept.run("doctor", "-o", "json").json["items"]
    [audit] = [one for one in found if one["what"] == "audit"]
    assert (audit["state"], "nobody recorded why" in audit["found"]) == ("trouble", True)
