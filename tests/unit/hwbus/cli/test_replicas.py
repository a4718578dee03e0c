"""Volumes with several replicas on the command line: how they are shown, and what is asked."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas.node import Capability
from schemas.operation import OperationEnded, OperationKind, Outcome
from schemas.replica_view import LegRole, ReplicasCompared, VolumeHealth, VolumeLeg
from schemas.replication import LegDisk, LegSeen, PeerSeen, ReplicationChanged, Sync, Tie
from schemas.views import NodeRow, NodeState, ReplicaRow, ReplicaState, VolumeRow, VolumeState
from tests.support.cli import OPERATION, UID, Stage, ago
from tests.unit.hwbus.cli.rows import STAMPS, furnish

GIB = 1 << 30
GOLDEN = Path(__file__).with_name("golden")
LISTS = {
    "replicated-volume": ("volume", "ls"),
    "replicated-volume-show": ("volume", "show", "pg"),
    "replicated-replica": ("replica", "ls"),
    "replicated-node": ("node", "ls"),
}
HOME = VolumeLeg(node="n1", pool="fast", good=True, disk=LegDisk.UP_TO_DATE)
BACK = VolumeLeg(
    node="n2",
    pool="fast",
    disk=LegDisk.INCONSISTENT,
    tie=Tie.CONNECTED,
    sync=Sync.TARGET,
    out_of_sync_bytes=GIB,
    outdated=True,
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def _volume() -> VolumeRow:
    return VolumeRow(
        name="pg",
        uid=UID,
        state=VolumeState.READY,
        size_bytes=4 * GIB,
        wanted_bytes=4 * GIB,
        pool="fast",
        node="n1",
        device="/dev/fast/pg",
        replicas=(HOME, BACK),
        replicas_wanted=2,
        health=VolumeHealth.SYNCING,
        epoch=3,
        sync_percent=75,
        sync_bytes_per_s=100 << 20,
        **STAMPS,
    )


def _replicas() -> tuple[ReplicaRow, ...]:
    leg = ReplicaRow(
        volume="pg",
        node="n1",
        pool="fast",
        uid=UID,
        state=ReplicaState.PRESENT,
        size_bytes=4 * GIB + (4 << 20),
        device="/dev/fast/pg",
        role=LegRole.PRIMARY,
        disk_state=LegDisk.UP_TO_DATE,
        peers=(
            PeerSeen(
                node="n2",
                tie=Tie.CONNECTED,
                disk=LegDisk.INCONSISTENT,
                sync=Sync.SOURCE,
                out_of_sync_bytes=GIB,
            ),
        ),
        out_of_sync_bytes=GIB,
        seen_at=ago(seconds=4),
        seen_in=3,
        epoch=3,
        **STAMPS,
    )
    back = replace(
        leg,
        node="n2",
        role=LegRole.SECONDARY,
        disk_state=LegDisk.INCONSISTENT,
        peers=(PeerSeen(node="n1", primary=True, tie=Tie.CONNECTED, disk=LegDisk.UP_TO_DATE),),
        outdated=True,
    )
    return (leg, back)


def _furnish(stage: Stage) -> None:
    furnish(stage)
    can = (Capability.LVM, Capability.REPLICATION)
    node = NodeRow(name="n1", state=NodeState.READY, address="10.0.0.1", capabilities=can, **STAMPS)
    many = replace(node, name="n3", capabilities=(*can, Capability.REPLICATION_MANY))
    stage.rows |= {
        "volumes": (_volume(),),
        "volume": (_volume(),),
        "replicas": _replicas(),
        "snapshots": (),
        "nodes": (node, replace(node, name="n2", capabilities=can[:1]), many),
    }


@pytest.mark.parametrize("form", ["table", "wide", "json"])
@pytest.mark.parametrize("name", LISTS)
def test_what_is_printed_is_what_was_agreed(stage: Stage, name: str, form: str) -> None:
    _furnish(stage)
    done = stage.run(*LISTS[name], "-o", form)
    assert done.code == 0
    path = GOLDEN / f"{name}.{form}.txt"
    agreed = path.read_text(encoding="utf-8") if path.exists() else ""
    if done.out != agreed:
        path.with_suffix(".new").write_text(done.out, encoding="utf-8")
    assert done.out == agreed, f"if this is right: mv {path.with_suffix('.new')} {path}"


def test_replicas_are_called_by_their_node(stage: Stage) -> None:
    _furnish(stage)
    assert stage.run("replica", "ls", "-o", "name").out == "replica/n1/pg\nreplica/n2/pg\n"


def test_replicas_are_asked_for_by_volume_and_node(stage: Stage) -> None:
    _furnish(stage)
    called = stage.run("replica", "ls", "volume/pg", "--node", "node/n2", "--show-call").out
    assert '"volume":"pg"' in called
    assert '"node":"n2"' in called


@pytest.mark.parametrize(
    ("state", "health", "shown"),
    [
        (VolumeState.READY, VolumeHealth.HEALTHY, "healthy"),
        (VolumeState.READY, VolumeHealth.DEGRADED, "degraded"),
        (VolumeState.GROWING, VolumeHealth.HEALTHY, "growing"),
        (VolumeState.MIGRATING, VolumeHealth.SPLIT, "migrating split"),
        (VolumeState.READY, None, "ready"),
    ],
)
def test_the_state_tells_what_is_done_and_what_is_the_matter(
    stage: Stage, state: VolumeState, health: VolumeHealth | None, shown: str
) -> None:
    _furnish(stage)
    row = replace(_volume(), state=state, health=health, sync_percent=None)
    stage.rows["volumes"] = (row,)
    assert stage.run("volume", "ls").out.splitlines()[1].startswith(f"pg    {shown}  ")


def test_deleting_a_volume_names_every_node_that_has_it(stage: Stage) -> None:
    _furnish(stage)
    done = stage.run("volume", "delete", "pg", typed="no\n", typed_on_tty=True)
    assert "(4GiB, on n1, n2)" in done.err


def test_data_is_given_up_only_by_who_says_so_twice(stage: Stage) -> None:
    _furnish(stage)
    done = stage.run("volume", "settle-split", "pg", "--loses", "n2")
    assert done.code == 2
    assert "only the replica of 'pg' on 'n2' has" in done.err
    assert "--yes" in done.err
    assert stage.heard == []


def test_whoever_waits_sees_how_far_a_replica_is_filled(stage: Stage) -> None:
    _furnish(stage)
    filled = PeerSeen(
        node="n1", tie=Tie.CONNECTED, disk=LegDisk.UP_TO_DATE, sync=Sync.TARGET,
        out_of_sync_bytes=GIB,
    )  # fmt: skip
    seen = LegSeen(primary=False, disk=LegDisk.INCONSISTENT, peers=(filled,))
    change = ReplicationChanged(volume="pg", node="n2", uid=UID, epoch=0, seen=seen)
    whole = LegSeen(primary=False, disk=LegDisk.CONSISTENT)
    done = ReplicationChanged(volume="pg", node="n2", uid=UID, epoch=0, seen=whole)
    end = OperationEnded(
        operation=OPERATION,
        kind=OperationKind.VOLUME_ADD_REPLICA,
        object="volume/pg",
        outcome=Outcome.COMPLETED,
    )
    stage.write("hwbus.evt.replica.n2.pg", change, correlation="the look of a node")
    stage.write("hwbus.evt.replica.n2.pg", done, correlation="another look")
    stage.write(f"hwbus.evt.operation.-.{OPERATION}", end, correlation=OPERATION)
    watched = stage.run("op", "watch", OPERATION)
    assert watched.code == 0
    assert watched.err.splitlines() == [
        "  replica replication changed, inconsistent, 1GiB behind  replica/n2/pg  seq 1",
        "  operation ended, completed  seq 3",
    ]


def test_replicas_that_differ_are_shown_so_and_since_when_that_is_known(stage: Stage) -> None:
    _furnish(stage)
    good = replace(BACK, disk=LegDisk.UP_TO_DATE, sync=Sync.NONE, out_of_sync_bytes=4096, good=True)
    known = ReplicasCompared(operation=OPERATION, at=ago(hours=3), differing_bytes=4096)
    differs = replace(
        _volume(),
        replicas=(HOME, good),
        health=VolumeHealth.DIFFERS,
        compared=known,
        sync_percent=None,
    )
    leg = _replicas()[0]
    peers = (replace(leg.peers[0], sync=Sync.NONE, out_of_sync_bytes=4096),)
    stage.rows |= {"volumes": (differs,), "volume": (differs,)}
    stage.rows |= {"replicas": (replace(leg, peers=peers),)}
    listed = stage.run("volume", "ls", "-o", "wide").out
    assert "differs" in listed
    assert "verifying" in listed
    assert "3h 4KiB differs" in listed
    assert "n2 connected inconsistent 4KiB differs" in stage.run("replica", "ls").out
    assert "differing_bytes=4KiB" in stage.run("volume", "show", "pg").out
