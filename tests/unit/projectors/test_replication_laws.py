"""The row of a volume says what the volume itself knows, whatever has happened to its replicas."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aggregates import legs_past
from aggregates.volume import Volume, VolumePhase
from projectors.fold import Folded, fold_event
from projectors.rows import Rows
from projectors.tables import LEGS, VOLUMES
from schemas.attaching import VolumeAttached, VolumeAttachingBegan, VolumeDetached
from schemas.attachment import AttachmentSpec
from schemas.grammar import Event
from schemas.handing import (
    FailoverBegan,
    HandOverBegan,
    HandOverFailed,
    PeerFenced,
    PeerReturned,
    VolumeFailoverSet,
    VolumeHandedOver,
    VolumeHomeMoved,
    VolumeTiedAnew,
)
from schemas.legs import (
    MigrationBegan,
    MigrationFailed,
    ReplicaAdded,
    ReplicaAdditionBegan,
    ReplicaAdditionFailed,
    ReplicaRemovalBegan,
    ReplicaRemovalFailed,
    SplitSettled,
    SplitSettlingBegan,
    SplitSettlingFailed,
    VolumeMigrated,
    VolumeReplicaRemoved,
)
from schemas.refusals import Refusal
from schemas.replica_view import ReplicasCompared, VolumeHealth
from schemas.replication import LegDisk, Member, PeerSeen, Sync, Tie
from schemas.verifying import (
    RepairBegan,
    VerificationBegan,
    VerificationFailed,
    VolumeRepaired,
    VolumeVerified,
)
from schemas.volume import (
    VolumeLocked,
    VolumeProvisioned,
    VolumeProvisioningBegan,
    VolumeUnlocked,
)
from tests.unit.projectors.replicated import LATER, WORK, member, told
from tests.unit.projectors.stories import GIB, Story, uid

NODES = ("n1", "n2", "n3")
SPEC = AttachmentSpec(uid=uid(7), volume_uid=uid(1), pool="fast", consumer="pod/shop/pg-0")
MINE: dict[str, Any] = {"volume": "pg", "operation": uid(8)}
FAILED: dict[str, Any] = {**MINE, "code": Refusal.DEADLINE, "because": "too late"}
BEGUN = (
    VolumeProvisioningBegan(**WORK, size_bytes=GIB, candidates=()),
    VolumeProvisioned(**MINE, uid=uid(1), node="n1", pool="fast", size_bytes=GIB),
)
Pick = Callable[[st.SearchStrategy[Any]], Any]


def _members(state: Volume) -> tuple[Member, ...]:
    return state.members or (member("n1", 0),)


def _begins(state: Volume, pick: Pick) -> Event:
    """Return something that may begin while nothing, or a migration, is under way."""
    there = pick(st.sampled_from(_members(state))).node
    attachment = pick(st.sampled_from((None, SPEC)))
    choices: list[Event] = [
        ReplicaAdditionBegan(
            **WORK, node=state.node, pool="fast", size_bytes=GIB, leg_bytes=GIB, candidates=(),
            members=state.members,
        ),
        VolumeFailoverSet(volume="pg", auto=pick(st.booleans())),
    ]  # fmt: skip
    if state.members:
        choices += [
            PeerFenced(volume="pg", node=state.node, peer=there, epoch=state.epoch + 1),
            PeerReturned(volume="pg", peer=there),
            HandOverBegan(**WORK, from_node=state.node, node=there, attachment=attachment),
            SplitSettlingBegan(**WORK, node=state.node, loses=there),
            *_compares(state, pick),
        ]
        if there != state.node:
            choices.append(
                ReplicaRemovalBegan(
                    **WORK, node=there, pool="fast", size_bytes=GIB, members=state.members,
                    home=state.node,
                )
            )  # fmt: skip
    if not state.migrating:
        choices += [
            MigrationBegan(**WORK, home=state.node, source=there, members=state.members),
            VolumeAttachingBegan(**MINE, deadline=LATER, node=there, attachment=SPEC),
            VolumeLocked(**MINE, uid=uid(1), snapshot="s"),
        ]
        if there != state.node:
            choices.append(
                FailoverBegan(**WORK, from_node=state.node, node=there, epoch=state.epoch + 1)
            )
    else:
        choices += [VolumeMigrated(**MINE, source=state.migrating), MigrationFailed(**FAILED)]
    return pick(st.sampled_from(choices))  # type: ignore[no-any-return]


def _compares(state: Volume, pick: Pick) -> tuple[Event, ...]:
    """Return what may happen to a comparison, which goes on beside all else."""
    if state.verifying is None:
        return (VerificationBegan(**WORK, node=state.node, peers=("n2",), size_bytes=GIB),)
    found = {"differing_bytes": pick(st.sampled_from((0, 4096))), "goes_on": pick(st.booleans())}
    verified = VolumeVerified(**MINE, at=LATER, **found)
    if state.migrating:
        return (verified, VerificationFailed(**FAILED))
    copying = RepairBegan(**MINE, node=state.node, differing_bytes=4096)
    return (verified, VerificationFailed(**FAILED), copying)


def _ends(state: Volume, pick: Pick) -> Event:
    """Return how what is under way may go on or end."""
    attachment = pick(st.sampled_from((None, SPEC)))
    match state.phase:
        case VolumePhase.ADDING_REPLICA:
            known = _members(state)
            new = [n for n in NODES if n not in {one.node for one in known}]
            more = tuple(member(node, NODES.index(node)) for node in new[:1])
            added = ReplicaAdded(**MINE, members=(*known, *more))
            larger = pick(st.sampled_from((0, 2 * GIB)))
            failed = ReplicaAdditionFailed(**FAILED, size_bytes=larger)
            some: tuple[Event, ...] = (added, failed)
        case VolumePhase.REMOVING_REPLICA:
            gone = pick(st.sampled_from([m.node for m in state.members if m.node != state.node]))
            left = tuple(one for one in state.members if one.node != gone)
            left = left if len(left) > 1 else ()
            lost = pick(st.booleans())
            removed = VolumeReplicaRemoved(
                **MINE, node=gone, members=left, size_bytes=2 * GIB, lost=lost
            )
            some = (removed, ReplicaRemovalFailed(**FAILED))
        case VolumePhase.HANDING_OVER | VolumePhase.FAILING_OVER:
            there = pick(st.sampled_from(state.members)).node
            kept = state.phase is VolumePhase.HANDING_OVER and pick(st.booleans())
            some = (
                VolumeHomeMoved(**MINE, node=there, epoch=state.epoch + 1),
                VolumeHandedOver(**MINE, node=state.node, attachment=attachment),
                HandOverFailed(**FAILED, attachment=None if kept else attachment, kept=kept),
            )
        case VolumePhase.REPAIRING:
            repaired = VolumeRepaired(**MINE, node=state.node, differing_bytes=4096)
            failover = FailoverBegan(
                **(WORK | {"operation": uid(9)}),
                from_node=state.node,
                node=pick(st.sampled_from(state.members)).node,
                epoch=state.epoch + 1,
            )
            some = (repaired, VerificationFailed(**FAILED), failover)
        case VolumePhase.SETTLING_SPLIT:
            some = (SplitSettled(**MINE), SplitSettlingFailed(**FAILED))
        case VolumePhase.ATTACHING:
            some = (VolumeAttached(**MINE, attachment=SPEC),)
        case VolumePhase.LOCKED:
            there = pick(st.sampled_from(state.members or (member("n1", 0),))).node
            anew = VolumeTiedAnew(**MINE, node=there, epoch=state.epoch + 1, members=state.members)
            free = VolumeUnlocked(**MINE, snapshot="s")
            some = (free, anew) if state.members else (free,)
        case _:
            some = (VolumeDetached(**MINE, consumer=SPEC.consumer),)
    return pick(st.sampled_from(some))  # type: ignore[no-any-return]


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_where_a_volume_is_and_who_may_write_is_the_same_in_its_row(data: st.DataObject) -> None:
    story, state, rows = Story(), Volume(), Rows(lambda _table, _key: None)
    for begun in BEGUN:
        story.say(begun)
        state = legs_past.evolve(state, begun)
        fold_event(rows, story.events[-1], "events", Folded())
    for _ in range(data.draw(st.integers(1, 14))):
        calm = state.phase in {VolumePhase.READY, VolumePhase.MIGRATING}
        event = (_begins if calm else _ends)(state, data.draw)
        story.say(event)
        state = legs_past.evolve(state, event)  # type: ignore[arg-type]
        fold_event(rows, story.events[-1], "events", Folded())
        row, has = rows.get(VOLUMES, "pg"), state.use.attachment
        assert row is not None
        assert (row.node, row.epoch, row.failover) == (state.node, state.epoch, state.failover)
        assert [one.node for one in row.replicas] == [one.node for one in state.members]
        assert {one.node for one in row.replicas if one.outdated} == state.outdated & {
            one.node for one in state.members
        }
        assert (row.state.value, row.operation) == (state.phase.value, state.operation)
        comparing = state.verifying.operation if state.verifying is not None else ""
        known = row.compared or ReplicasCompared()
        assert (known.operation, known.at) == (comparing, state.verified_at)
        assert known.differing_bytes == state.differing_bytes
        assert (row.migrating_from, row.size_bytes) == (state.migrating, state.size_bytes)
        assert row.replicas_wanted == state.replicas
        assert row.consumer == (has.consumer if has is not None else "")
        for node in NODES:
            listed = rows.get(LEGS, node)
            here = node in {one.node for one in state.members}
            assert (listed is not None) is here


def _peers(node: str) -> st.SearchStrategy[tuple[PeerSeen, ...]]:
    one = st.builds(
        PeerSeen,
        node=st.sampled_from([n for n in NODES if n != node]),
        tie=st.sampled_from(Tie),
        disk=st.sampled_from(LegDisk),
        sync=st.sampled_from(Sync),
        out_of_sync_bytes=st.integers(0, 2 * GIB),
    )
    return st.lists(one, max_size=2, unique_by=lambda peer: peer.node).map(tuple)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_no_volume_is_healthy_or_survives_anything_without_replicas_to_do_it(
    data: st.DataObject,
) -> None:
    story = Story().node("n1").node("n2").node("n3")
    members = tuple(member(node, number) for number, node in enumerate(NODES))
    for event in (*BEGUN, ReplicaAdded(**MINE, members=members)):
        story.say(event)
    for node in NODES:
        told(
            story,
            node,
            *data.draw(_peers(node)),
            disk=data.draw(st.sampled_from(LegDisk)),
            frozen=data.draw(st.booleans()),
            split=data.draw(st.booleans()),
        )
    row = story.row(VOLUMES, "pg")
    assert row is not None
    good = [one for one in row.replicas if one.good]
    assert row.survives <= max(0, len(good) - 1)
    assert all(one.disk is LegDisk.UP_TO_DATE for one in good)
    if row.health in {VolumeHealth.HEALTHY, VolumeHealth.DIFFERS}:
        assert len(good) == len(members)
        known = [one for one in row.replicas if one.out_of_sync_bytes and one.sync is Sync.NONE]
        assert bool(known) is (row.health is VolumeHealth.DIFFERS)
    if row.health in {VolumeHealth.DEGRADED, VolumeHealth.SYNCING}:
        assert good
