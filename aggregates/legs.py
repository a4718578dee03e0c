"""Volumes with several replicas: more and fewer, and where to."""

from datetime import timedelta
from functools import partial
from typing import assert_never

from msgspec.structs import replace

from aggregates import common_nodes, counting, handing, labelling, verifying, volume_settling
from aggregates.common_nodes import Company, Place
from aggregates.concluding_legs import conclude
from aggregates.decision import Decision, Facts
from aggregates.node import cannot_replicate, unheard
from aggregates.peers import (
    device_bytes,
    member_on,
    one_of_several_moves,
    others,
    rank_more,
    replicable,
    seen,
    unwritable,
)
from aggregates.placement import nowhere
from aggregates.replica import ReplicaPhase
from aggregates.volume import Volume, VolumePhase
from schemas.answers import Refused, refuse
from schemas.counting import CountingCommand, CountingEvent, ReportVolumeIo
from schemas.handing import (
    FailVolumeOver,
    FencePeer,
    HandOverVolume,
    MoveHome,
    ReportPeerBack,
    SetFailover,
    TieAnew,
    VolumeFailoverSet,
)
from schemas.labels import LabellingCommand, LabellingEvent, LabelVolume
from schemas.legs import (
    AddReplica,
    ConcludeReplicas,
    LegsCommand,
    LegsEvent,
    MigrateVolume,
    MigrationBegan,
    RemoveReplicaOf,
    ReplicaAdditionBegan,
    ReplicaRemovalBegan,
    SettleSplitBrain,
    SplitSettlingBegan,
)
from schemas.node import Capability
from schemas.refusals import Refusal
from schemas.replica import ReplicaSpec
from schemas.replication import MEMBERS_MAX
from schemas.verifying import VerifyingCommand
from schemas.volume import Candidate, ConcludeVolume, Layout, ProvisionVolume

_Command = volume_settling.Command | LegsCommand | LabellingCommand | CountingCommand
_Event = volume_settling.Happened | LegsEvent | LabellingEvent | CountingEvent
_Change = (
    AddReplica
    | RemoveReplicaOf
    | HandOverVolume
    | FailVolumeOver
    | MigrateVolume
    | SettleSplitBrain
    | SetFailover
)
REPLICAS_PHASES = frozenset(
    {
        VolumePhase.ADDING_REPLICA,
        VolumePhase.REMOVING_REPLICA,
        VolumePhase.HANDING_OVER,
        VolumePhase.FAILING_OVER,
        VolumePhase.MIGRATING,
        VolumePhase.SETTLING_SPLIT,
        VolumePhase.REPAIRING,
    }
)


def decide(volume: Volume, command: _Command, facts: Facts) -> Decision[_Event]:
    """Say what shall happen to a volume and its replicas. Never refuses a report."""
    if isinstance(command, VerifyingCommand):
        return verifying.decide(volume, command, facts)
    if isinstance(command, LabelVolume):
        return labelling.decide(volume, command)
    if isinstance(command, ReportVolumeIo):
        return counting.note(volume, command)
    no = verifying.hindered(volume, command)
    if no is not None:
        return no
    match command:
        case FencePeer():
            return handing.fence(volume, command)
        case ReportPeerBack():
            return handing.note_back(volume, command)
        case MoveHome():
            return handing.move_home(volume, command)
        case TieAnew():
            return handing.tie_anew(volume, command)
        case ConcludeReplicas():
            mine = volume.operation == command.operation
            return conclude(volume, command) if mine else ()
        case ConcludeVolume() if volume.phase in REPLICAS_PHASES:
            return _give_up(volume, command)
        case (
            AddReplica()
            | RemoveReplicaOf()
            | HandOverVolume()
            | FailVolumeOver()
            | MigrateVolume()
            | SettleSplitBrain()
            | SetFailover()
        ):
            return _unready(volume, command) or _change(volume, command, facts)
        case _:
            return volume_settling.decide(volume, command, facts)


def _unready(volume: Volume, command: _Change) -> Refused | None:
    name = command.volume
    if volume.phase is VolumePhase.ABSENT or volume.phase is VolumePhase.CLONING:
        return refuse(Refusal.UNKNOWN_VOLUME, f"there is no volume {name}")
    if volume.phase is VolumePhase.HELD:
        return refuse(Refusal.VOLUME_HELD, f"{name} is deleted, and held")
    step_of = getattr(command, "operation", None)
    at_rest = volume.phase in {VolumePhase.READY, VolumePhase.MIGRATING, VolumePhase.PROVISIONING}
    if volume.operation and not (at_rest and step_of == volume.operation):
        running = f"operation {volume.operation} ({volume.phase.value}) runs on {name}"
        return refuse(Refusal.VOLUME_BUSY, running)
    return None


def _change(volume: Volume, command: _Change, facts: Facts) -> Decision[LegsEvent]:
    match command:
        case AddReplica():
            return _add(volume, command, facts)
        case MigrateVolume():
            return _migrate(volume, command, facts)
        case SetFailover():
            same = volume.failover is command.auto
            set_ = VolumeFailoverSet(volume=command.volume, auto=command.auto)
            return () if same else (set_,)
        case RemoveReplicaOf() | HandOverVolume() | FailVolumeOver() | SettleSplitBrain():
            if not volume.members:
                one = f"{command.volume} has one replica, on {volume.node}"
                return refuse(Refusal.NOT_REPLICATED, one)
            return _among_members(volume, command, facts)
        case _:
            assert_never(command)


def _among_members(
    volume: Volume,
    command: RemoveReplicaOf | HandOverVolume | FailVolumeOver | SettleSplitBrain,
    facts: Facts,
) -> Decision[LegsEvent]:
    match command:
        case RemoveReplicaOf():
            return _remove(volume, command, facts)
        case HandOverVolume():
            return handing.hand_over(volume, command, facts)
        case FailVolumeOver():
            return handing.fail_over(volume, command, facts)
        case SettleSplitBrain():
            return _settle_split(volume, command, facts)
        case _:
            assert_never(command)


def _cannot_add(
    volume: Volume, command: AddReplica, home: str, members: int, facts: Facts
) -> Refused | None:
    no = replicable(volume, command.volume)
    if len(volume.members) >= MEMBERS_MAX or (volume.members and not _many(volume, facts)):
        nodes = ", ".join(one.node for one in volume.members)
        no = no or refuse(Refusal.TOO_MANY_REPLICAS, f"{command.volume} has {nodes}")
    if volume.snapshots and volume.layout is not Layout.THIN and not volume.members:
        kept = f"{command.volume} has the snapshots {', '.join(sorted(volume.snapshots))}"
        no = no or refuse(Refusal.HAS_SNAPSHOTS, kept[:1000])
    return no or _cannot_be_home(home, members, facts) or _has_not_let_go(command, home, facts)


def _has_not_let_go(command: AddReplica, home: str, facts: Facts) -> Refused | None:
    leg = facts.world.replicas.get((home, command.volume))
    if leg is None or leg.phase is not ReplicaPhase.TYING:
        return None
    busy = f"{home} has not said yet how its replica of {command.volume} is tied"
    return refuse(Refusal.REPLICA_BUSY, busy)


def _add(volume: Volume, command: AddReplica, facts: Facts) -> Decision[LegsEvent]:
    home = command.made_on or volume.node
    members = max(2, len(volume.members) + 1)
    no = _cannot_add(volume, command, home, members, facts)
    company = _company(volume, command, facts)
    if command.operation is None:
        no = no or common_nodes.unsettled(command.volume, company, making=False)
    if no is not None:
        return no
    wish = ProvisionVolume(
        volume=command.volume,
        size_bytes=volume.size_bytes,
        node=command.node,
        pool=command.pool,
        layout=volume.layout,
    )
    leg = facts.world.replicas.get((home, command.volume))
    spec = None if leg is None else leg.spec
    volume = _as_seen(volume, command, spec)
    candidates = _beside(
        rank_more(volume, wish, home, members, facts), volume, home, company, facts
    )
    return _nowhere(wish, candidates, company) or (
        ReplicaAdditionBegan(
            volume=command.volume,
            uid=volume.uid,
            operation=command.operation or facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=home,
            pool=command.made_in or volume.pool,
            size_bytes=volume.size_bytes,
            leg_bytes=device_bytes(volume) if spec is None else spec.size_bytes,
            candidates=candidates,
            members=volume.members,
            layout=volume.layout,
            stripes=volume.stripes,
            header_bytes=volume.header_bytes,
            filesystem=volume.filesystem,
            blank=command.made_on is not None,
            encryption=None if spec is None else spec.encryption,
            resync_bytes_per_s=command.resync_bytes_per_s,
        ),
    )


def _company(volume: Volume, command: AddReplica | MigrateVolume, facts: Facts) -> Company | None:
    """Return the other volumes of its group, if it has to stay with them.

    What moves all of them names the node for each.
    """
    steered = command.operation is not None
    if isinstance(command, AddReplica):
        steered = steered and command.node is not None
    if command.apart or steered:
        return None
    return common_nodes.of_member(command.volume, volume, facts.world)


def _beside(
    candidates: tuple[Candidate, ...],
    volume: Volume,
    home: str,
    company: Company | None,
    facts: Facts,
) -> tuple[Candidate, ...]:
    """Return the candidates for one replica more, only those that keep the group together."""
    if company is None:
        return candidates
    here = Place(home, frozenset({home, *(one.node for one in volume.members)}))
    name, more = next(iter(company.own)), partial(_more, here)
    return common_nodes.keep(name, candidates, here, more, company, facts.world)


def _more(here: Place, node: str) -> Place:
    return Place(here.home, here.nodes | {node})


def _nowhere(
    wish: ProvisionVolume, candidates: tuple[Candidate, ...], company: Company | None
) -> Refused | None:
    if company is None:
        return nowhere(wish, candidates)
    return common_nodes.nowhere(candidates, partial(nowhere, wish), wish.volume, company)


def _as_seen(volume: Volume, command: AddReplica, spec: ReplicaSpec | None) -> Volume:
    """Return the volume as large as whoever has it sees it: nothing replicated is smaller.

    A second replica that came to nothing leaves it larger, by what its leg had grown. While one of
    several migrates, a leg that is alone for a moment is larger than what is seen of it.
    """
    if spec is None or volume.members or one_of_several_moves(volume) or command.made_on:
        return volume
    seen_bytes = spec.size_bytes - volume.header_bytes
    return replace(volume, size_bytes=max(volume.size_bytes, seen_bytes))


def _many(volume: Volume, facts: Facts) -> bool:
    nodes = (facts.world.nodes.get(one.node) for one in volume.members)
    return all(n is not None and Capability.REPLICATION_MANY in n.capabilities for n in nodes)


def _cannot_be_home(home: str, members: int, facts: Facts) -> Refused | None:
    node = facts.world.nodes.get(home)
    return unheard(node, home) or cannot_replicate(node, home, members)


def _remove(volume: Volume, command: RemoveReplicaOf, facts: Facts) -> Decision[LegsEvent]:
    name, going = command.volume, member_on(volume, command.node)
    if going is None:
        return refuse(Refusal.NO_SUCH_REPLICA, f"{name} has no replica on {command.node}")
    if going.node == volume.node:
        return refuse(Refusal.REPLICA_IN_CHARGE, f"{name} is written to on {going.node}")
    node = facts.world.nodes.get(going.node)
    if command.lost and node is not None and not node.silent:
        return refuse(Refusal.NODE_NOT_SILENT, f"{going.node} is heard")
    kept = sorted(volume.snapshots & _on(going.node, facts))
    if kept and not command.lost:
        snapshots = f"{going.node} has the snapshots {', '.join(kept)} of {name}"
        return refuse(Refusal.HAS_SNAPSHOTS, snapshots[:1000])
    no = unwritable(volume, name, volume.node, facts.world)
    if not command.lost:
        no = no or unheard(node, going.node)
    return no or (
        ReplicaRemovalBegan(
            volume=name,
            uid=volume.uid,
            operation=command.operation or facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=going.node,
            pool=going.pool,
            home=volume.node,
            size_bytes=device_bytes(volume),
            members=volume.members,
            header_bytes=volume.header_bytes,
            lost=command.lost,
        ),
    )


def _on(node: str, facts: Facts) -> frozenset[str]:
    return frozenset(name for name, one in facts.world.snapshots.items() if one.node == node)


def _migrate(volume: Volume, command: MigrateVolume, facts: Facts) -> Decision[LegsEvent]:
    name, source = command.volume, command.source or volume.node
    no = replicable(volume, name)
    here = source == volume.node or member_on(volume, source) is not None
    if not here:
        no = no or refuse(Refusal.NO_SUCH_REPLICA, f"{name} has no replica on {source}")
    if volume.snapshots:
        kept = f"{name} has the snapshots {', '.join(sorted(volume.snapshots))}"
        no = no or refuse(Refusal.HAS_SNAPSHOTS, kept[:1000])
    no = no or _cannot_be_home(volume.node, 2, facts)
    for one in others(volume):
        # One good copy stays whatever moves: none is taken away while another is behind.
        no = no or unwritable(volume, name, one.node, facts.world)
    company = _company(volume, command, facts)
    no = no or common_nodes.unsettled(name, company, making=True)
    if no is not None:
        return no
    wish = ProvisionVolume(
        volume=name, size_bytes=volume.size_bytes, node=command.node, pool=command.pool
    )
    candidates, node = rank_more(volume, wish, volume.node, 2, facts), command.node
    if company is not None:
        there, at = partial(common_nodes.moved, volume, source), common_nodes.place(volume)
        candidates = common_nodes.keep(name, candidates, at, there, company, facts.world)
        node = next((one.node for one in candidates if one.code is None), node)
    return _nowhere(wish, candidates, company) or (
        MigrationBegan(
            volume=name,
            uid=volume.uid,
            operation=command.operation or facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            home=volume.node,
            source=source,
            node=node,
            pool=command.pool,
            members=volume.members,
            resync_bytes_per_s=command.resync_bytes_per_s,
            apart=command.apart,
        ),
    )


def _settle_split(volume: Volume, command: SettleSplitBrain, facts: Facts) -> Decision[LegsEvent]:
    name = command.volume
    if member_on(volume, command.loses) is None:
        return refuse(Refusal.NO_SUCH_REPLICA, f"{name} has no replica on {command.loses}")
    if command.loses == volume.node:
        return refuse(Refusal.REPLICA_IN_CHARGE, f"{name} is written to on {command.loses}")
    states = [seen(facts.world, one.node, name) for one in volume.members]
    if not any(one is not None and one.split for one in states):
        return refuse(Refusal.NO_SPLIT_BRAIN, f"no replica of {name} tells of one")
    nodes = facts.world.nodes
    no = unheard(nodes.get(volume.node), volume.node)
    no = no or unheard(nodes.get(command.loses), command.loses)
    return no or (
        SplitSettlingBegan(
            volume=name,
            uid=volume.uid,
            operation=facts.operation,
            deadline=facts.at + timedelta(seconds=command.deadline_s),
            node=volume.node,
            loses=command.loses,
        ),
    )


def _give_up(volume: Volume, report: ConcludeVolume) -> Decision[LegsEvent]:
    """Return the end of what its operation never said itself."""
    if volume.operation != report.operation:
        return ()
    ended = ConcludeReplicas(
        volume=report.volume,
        operation=report.operation,
        members=volume.members,
        code=report.code or Refusal.DEADLINE,
        because=report.because,
        kept=True,
    )
    events = conclude(volume, ended)
    if volume.migrating and volume.phase is not VolumePhase.MIGRATING:
        return (*events, *conclude(replace(volume, phase=VolumePhase.MIGRATING), ended))
    return events
