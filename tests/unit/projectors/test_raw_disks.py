"""A disk that is a volume: shown as its volume's, in no pool, and counted where it is taken."""

from projectors.tables import DISKS, NODES, POOLS, REPLICAS, USAGE, VOLUMES
from schemas.deleting import VolumeDeleted
from schemas.disk import DiskClaimed, DiskForgotten, DiskGone, DiskReleased
from schemas.node import PoolAttached, PoolDetached
from schemas.replica import ReplicaCreated, ReplicaRemoved, ReplicaSpec, ReplicaWanted
from schemas.usage_view import UsageRow
from schemas.views import DiskState
from schemas.volume import Candidate, Layout, VolumeProvisioned, VolumeProvisioningBegan
from tests.unit.projectors.stories import GIB, Story, sighting, uid

GROUP = f"disk-{uid(1)}"
SIZE = 20 * GIB - (4 << 20)


def _made() -> Story:
    story = Story().node("n1").node("n2").pool().disk("d1", sighting=sighting())
    here = Candidate(node="n1", pool=GROUP, disk="d1", room_bytes=SIZE)
    story.say(
        VolumeProvisioningBegan(
            volume="wal",
            uid=uid(1),
            operation=uid(9),
            deadline=story.at,
            size_bytes=1,
            candidates=(here,),
            layout=Layout.DISK,
        )
    )
    story.say(DiskClaimed(disk="d1", node="n1", pool=GROUP, operation=uid(9), volume="wal"))
    story.say(PoolAttached(node="n1", pool=GROUP, volume="wal"))
    spec = ReplicaSpec(uid=uid(1), pool=GROUP, size_bytes=SIZE, layout=Layout.DISK, disk="d1")
    story.say(ReplicaWanted(volume="wal", node="n1", operation=uid(9), spec=spec))
    story.say(
        ReplicaCreated(
            volume="wal",
            node="n1",
            uid=uid(1),
            pool=GROUP,
            size_bytes=SIZE,
            device=f"/dev/{GROUP}/wal",
            disk="d1",
        )
    )
    story.say(
        VolumeProvisioned(
            volume="wal",
            uid=uid(1),
            operation=uid(9),
            node="n1",
            pool=GROUP,
            size_bytes=SIZE,
            disk="d1",
        )
    )
    return story


def _free(story: Story) -> None:
    story.say(ReplicaRemoved(volume="wal", node="n1", uid=uid(1), pool=GROUP, disk="d1"))
    story.say(DiskReleased(disk="d1", node="n1", pool=GROUP))
    story.say(PoolDetached(node="n1", pool=GROUP))
    story.say(VolumeDeleted(volume="wal", uid=uid(1), operation=uid(9)))


def _figures(story: Story, key: str) -> tuple[int, int, int, int]:
    row = story.row(USAGE, key) or UsageRow(level=story.all(USAGE)[0].level, name="", seq=0)
    return row.capacity_bytes, row.allocated_bytes, row.free_bytes, row.volumes


def test_it_is_the_disk_of_its_volume_and_in_no_pool() -> None:
    story = _made()
    disk, volume = story.row(DISKS, "d1"), story.row(VOLUMES, "wal")
    leg = story.row(REPLICAS, "n1/wal")
    assert disk is not None
    assert volume is not None
    assert leg is not None
    assert (disk.state, disk.volume, disk.pool) == (DiskState.CLAIMED, "wal", "")
    assert (volume.disk, volume.pool, volume.size_bytes) == ("d1", "", SIZE)
    assert (leg.pool, leg.layout) == ("", Layout.DISK)
    assert {pool.name for pool in story.all(POOLS)} == {"fast"}
    _free(story)
    disk = story.row(DISKS, "d1")
    assert disk is not None
    assert (disk.state, disk.volume) == (DiskState.FREE, "")


def test_node_and_cluster_count_all_of_it_as_taken_until_it_is_free() -> None:
    before = Story().node("n1").node("n2").pool().disk("d1", sighting=sighting())
    story = _made()
    for key in ("node/n1", "cluster/cluster"):
        capacity, allocated, free, volumes = _figures(before, key)
        assert _figures(story, key) == (capacity + SIZE, allocated + SIZE, free, volumes + 1)
    assert _figures(story, "volume/wal") == (SIZE, SIZE, 0, 1)
    assert _figures(story, "node/n2") == _figures(before, "node/n2")
    _free(story)
    for key in ("node/n1", "cluster/cluster"):
        assert _figures(story, key) == _figures(before, key)
    assert story.row(USAGE, "volume/wal") is None


def test_a_node_does_not_show_it_as_one_of_its_pools() -> None:
    node = _made().row(NODES, "n1")
    assert node is not None
    assert node.pools == ("fast",)


def test_a_disk_that_its_node_misses_is_remembered_where_it_belongs() -> None:
    story = _made()
    story.say(DiskGone(disk="d1", node="n1"))
    story.say(DiskForgotten(disk="d1", node="n1"))
    disk = story.row(DISKS, "d1")
    assert disk is not None
    assert (disk.state, disk.node, disk.volume) == (DiskState.GONE, "n1", "wal")
