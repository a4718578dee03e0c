from typing import Any

from msgspec.structs import replace

from schemas.attachment import (
    AttachmentLimitsWanted,
    AttachmentMade,
    AttachmentRemovalWanted,
    AttachmentRemovalWithdrawn,
    AttachmentRemoved,
    AttachmentSpec,
    AttachmentTroubled,
    AttachmentWanted,
    KeepAttachment,
    LimitAttachment,
    Limits,
    RemoveAttachment,
    ReportAttachmentAbsent,
    ReportAttachmentPresent,
    ReportAttachmentTrouble,
    WantAttachment,
)
from schemas.node import NodeFellSilent, NodeJoined
from schemas.refusals import Refusal
from tests.support.given import NOON, OPERATION, OTHER, UID, given

HERE: dict[str, Any] = {"volume": "pg", "node": "n1"}
SPEC = AttachmentSpec(uid=UID, volume_uid=OTHER, pool="fast", consumer="host/backup", cgroup="web")
JOINED = NodeJoined(node="n1")
WANT = WantAttachment(**HERE, operation=OPERATION, spec=SPEC)
WANTED = AttachmentWanted(**HERE, operation=OPERATION, spec=SPEC)
PRESENT = ReportAttachmentPresent(**HERE, uid=UID, device="/dev/hwbus/pg")
MADE = AttachmentMade(**HERE, uid=UID, device="/dev/hwbus/pg")
ABSENT = ReportAttachmentAbsent(**HERE, uid=UID)
REMOVE = RemoveAttachment(**HERE, operation=OPERATION)
KEEP = KeepAttachment(**HERE, operation=OPERATION)
GOING = AttachmentRemovalWanted(**HERE, operation=OPERATION, uid=UID)
STAYING = AttachmentRemovalWithdrawn(**HERE, operation=OPERATION, uid=UID)
REMOVED = AttachmentRemoved(**HERE, uid=UID)
SLOW = Limits(write_iops=100)
LIMIT = LimitAttachment(**HERE, operation=OPERATION, limits=SLOW)
LIMITED = AttachmentLimitsWanted(**HERE, operation=OPERATION, uid=UID, limits=SLOW)


def test_an_attachment_is_wanted_once() -> None:
    given(JOINED).when(WANT).then(WANTED)
    given(JOINED, WANTED).when(WANT).nothing()


def test_a_node_that_still_has_an_earlier_attachment_takes_no_other() -> None:
    later = replace(WANT, spec=replace(SPEC, uid=OTHER, consumer="pod/shop/pg-0"))
    for past in ((WANTED, MADE), (WANTED, MADE, GOING)):
        given(JOINED, *past).when(later).refused(Refusal.STILL_ATTACHED, "host/backup")
    given(JOINED, WANTED, MADE, GOING).when(WANT).refused(Refusal.STILL_ATTACHED)
    given(JOINED, WANTED, MADE, GOING, REMOVED).when(later).then(replace(WANTED, spec=later.spec))


def test_nothing_is_attached_on_a_node_that_is_not_heard() -> None:
    silent = NodeFellSilent(node="n1", last_heard=NOON)
    given(JOINED, silent).when(WANT).refused(Refusal.NODE_SILENT)


def test_an_attachment_is_made_when_the_node_has_it() -> None:
    given(WANTED).when(PRESENT).then(MADE)
    given(WANTED, MADE).when(PRESENT).nothing()
    given(WANTED).when(replace(PRESENT, uid=OTHER)).nothing()


def test_limits_hold_when_the_node_says_so_and_not_before() -> None:
    given(WANTED, MADE).when(LIMIT).then(LIMITED)
    given(WANTED, MADE, LIMITED).when(LIMIT).nothing()
    given(WANTED, MADE, LIMITED).when(PRESENT).nothing()
    limited = replace(PRESENT, limits=SLOW)
    given(WANTED, MADE, LIMITED).when(limited).then(replace(MADE, limits=SLOW))
    given(WANTED, MADE, GOING).when(LIMIT).refused(Refusal.STILL_ATTACHED)


def test_an_attachment_is_gone_when_the_node_has_nothing_left_of_it() -> None:
    given(WANTED, MADE).when(REMOVE).then(GOING)
    given(WANTED, MADE, GOING).when(REMOVE).nothing()
    given(WANTED, MADE, GOING).when(PRESENT).nothing()
    given(WANTED, MADE, GOING).when(ABSENT).then(REMOVED)
    given(WANTED, MADE).when(ABSENT).nothing()


def test_a_removal_that_is_withdrawn_ends_with_the_attachment_made_again() -> None:
    given(WANTED, MADE, GOING).when(KEEP).then(STAYING)
    past = (WANTED, MADE, GOING, STAYING)
    given(*past).when(KEEP).nothing()
    given(*past).when(ABSENT).nothing()
    given(*past).when(PRESENT).then(MADE)


def test_nothing_is_asked_of_what_is_not_attached() -> None:
    for command in (REMOVE, KEEP, LIMIT):
        given(JOINED).when(command).refused(Refusal.VOLUME_NOT_READY, "n1")
    given(JOINED).when(ABSENT).nothing()


def test_the_same_passing_trouble_is_news_once() -> None:
    trouble = ReportAttachmentTrouble(**HERE, uid=UID, code=Refusal.TOOL_FAILED, because="mount: 1")
    noted = AttachmentTroubled(**HERE, uid=UID, code=Refusal.TOOL_FAILED, because="mount: 1")
    given(WANTED).when(trouble).then(noted)
    given(WANTED, noted).when(trouble).nothing()
    given(WANTED, noted).when(replace(trouble, permanent=True)).then(replace(noted, permanent=True))
