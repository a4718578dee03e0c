"""Crash after every execution, start anew: the end is the same, and no data is lost."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregates.raw_disks import given_bytes
from node_workers.inventory import observe
from node_workers.lvm import LvmStorage
from node_workers.ports import (
    Attachment,
    CopyOf,
    Filesystem,
    Layout,
    Limits,
    PoolDisk,
    RefusedToTouchError,
    SnapshotSpec,
    StorageError,
    VolumeSpec,
)
from node_workers.simulated.faults import Faults, SimulatedCrash
from node_workers.simulated.machine import SimulatedMachine
from node_workers.simulated.runner import SimulatedRunner
from schemas.backups import FromBackup
from schemas.disk import Wiping
from schemas.errand import PutAside, PutBack, Uploaded
from schemas.mending import Mend
from tests.support import by_hand
from tests.support.backup_words import PLACE
from tests.support.beside import led_beside
from tests.support.by_hand import GROWN, LOST, RENAMED, THEIRS, ByHand, adopted, given_back, mended
from tests.support.clock import ManualClock
from tests.support.errands import TestersSecrets, upload
from tests.support.keys import HeldKeys, secret

GIB, MIB = 1 << 30, 1 << 20
NODE, UID, POOL, CAUSE = "n1", "01pool", "fast", "01command"
Step = Callable[[LvmStorage, list[PoolDisk]], Awaitable[object]]


def volume(name: str, mib: int = 320, **more: Any) -> VolumeSpec:
    return VolumeSpec(uid=f"uid-{name}", name=name, pool=POOL, size_bytes=mib * MIB, **more)


def pool(disks: int) -> Step:
    return lambda storage, all_disks: storage.ensure_pool(UID, POOL, all_disks[:disks], cause=CAUSE)


def wider_pool(storage: LvmStorage, disks: list[PoolDisk]) -> Awaitable[object]:
    return storage.ensure_pool_disks(UID, POOL, disks, cause=CAUSE)


def no_pool(storage: LvmStorage, disks: list[PoolDisk]) -> Awaitable[object]:
    return storage.ensure_pool_removed(UID, POOL, disks[:2], cause=CAUSE)


def thin_pool(mib: int) -> Step:
    return lambda storage, _: storage.ensure_thin_pool(UID, POOL, mib * MIB, cause=CAUSE)


def made(wanted: VolumeSpec) -> Step:
    return lambda storage, _: storage.ensure_volume(UID, wanted, cause=CAUSE)


def sized(wanted: VolumeSpec) -> Step:
    return lambda storage, _: storage.ensure_volume_size(UID, wanted, cause=CAUSE)


def snapshot(name: str = "s1", *, thin: bool = False) -> SnapshotSpec:
    return SnapshotSpec(
        uid=f"uid-{name}",
        name=name,
        pool=POOL,
        size_bytes=40 * MIB,
        volume="v1",
        volume_uid="uid-v1",
        thin=thin,
    )


def taken(name: str = "s1", *, thin: bool = False) -> Step:
    wanted = snapshot(name, thin=thin)
    return lambda storage, _: storage.ensure_snapshot(UID, wanted, cause=CAUSE)


def more_room() -> Step:
    wanted = msgspec.structs.replace(snapshot(), size_bytes=60 * MIB)
    return lambda storage, _: storage.ensure_snapshot_kept(UID, wanted, cause=CAUSE)


def thin_pool_size(mib: int, metadata_mib: int) -> Step:
    return lambda storage, _: storage.ensure_thin_pool_size(
        UID, POOL, mib * MIB, metadata_mib * MIB, cause=CAUSE
    )


def taken_together(storage: LvmStorage, _: list[PoolDisk]) -> Awaitable[object]:
    other = msgspec.structs.replace(snapshot("s2"), volume="v2", volume_uid="uid-v2")
    wishes = [(UID, snapshot()), (UID, other)]
    return storage.ensure_snapshots(wishes, may_take=True, cause=CAUSE)


def rolled_back(*, thin: bool = False) -> Step:
    return lambda storage, _: storage.ensure_rolled_back(UID, snapshot(thin=thin), cause=CAUSE)


def copied(wanted: VolumeSpec, *, thin: bool = False) -> Step:
    of = CopyOf(
        snapshot="s1", uid="uid-s1", pool=POOL, pool_uid=UID, size_bytes=320 * MIB, thin=thin
    )

    async def until_whole(storage: LvmStorage, _: list[PoolDisk]) -> None:
        while (await storage.ensure_copied(UID, wanted, of, cause=CAUSE)).volume is None:
            pass

    return until_whole


async def backed_up(storage: LvmStorage, _: list[PoolDisk]) -> Uploaded:
    """Back the snapshot up, turn by turn."""
    while True:
        found = await storage.do_errand("op", upload(320 * MIB), UID, cause=CAUSE)
        if isinstance(found, Uploaded):
            return found


def restored(wanted: VolumeSpec) -> Step:
    async def until_whole(storage: LvmStorage, disks: list[PoolDisk]) -> None:
        made = await backed_up(storage, disks)
        of = FromBackup(
            place=PLACE, target="s3", backup="b1", manifest=made.manifest, size_bytes=320 * MIB
        )
        while (await storage.ensure_copied(UID, wanted, of, cause=CAUSE)).volume is None:
            pass

    return until_whole


def kept_or_merged(storage: LvmStorage, _: list[PoolDisk]) -> Awaitable[object]:
    return storage.ensure_snapshot_kept(UID, snapshot(), cause=CAUSE)


def rekeyed(*keys: str, dropped: tuple[str, ...] = ()) -> Step:
    wanted = volume("v1", keys=keys)
    return lambda storage, _: storage.ensure_volume_keys(UID, wanted, dropped, cause=CAUSE)


def unused(wanted: VolumeSpec) -> Step:
    return lambda storage, _: storage.ensure_volume_unused(UID, wanted, cause=CAUSE)


class Write:
    """Something is written on the volume v1."""

    def __init__(self, data: str) -> None:
        self.data = data


def removed(name: str) -> Step:
    return lambda storage, _: storage.ensure_volume_removed(
        UID, POOL, f"uid-{name}", name, cause=CAUSE
    )


def use(name: str, **more: Any) -> Attachment:
    return Attachment(volume=name, volume_uid=f"uid-{name}", pool=POOL, **more)


def attached(wanted: Attachment) -> Step:
    return lambda storage, _: storage.ensure_attached(UID, wanted, cause=CAUSE)


def detached(wanted: Attachment) -> Step:
    return lambda storage, _: storage.ensure_detached(wanted, cause=CAUSE)


def raw(name: str = "raw", **more: Any) -> VolumeSpec:
    """Return a volume that is all of the third disk."""
    size_bytes = given_bytes(2 * GIB)
    about: dict[str, Any] = {"uid": f"uid-{name}", "name": name, "pool": f"disk-{name}"}
    return VolumeSpec(**about, size_bytes=size_bytes, **more)


def whole_disk(wanted: VolumeSpec) -> Step:
    return lambda storage, disks: storage.ensure_whole_disk(wanted, disks[2], cause=CAUSE)


def freed(wiping: Wiping) -> Step:
    return lambda storage, disks: storage.ensure_disk_freed(
        raw(), disks[2], wiping=wiping, cause=CAUSE
    )


def active(storage: LvmStorage, _: list[PoolDisk]) -> Awaitable[object]:
    return storage.ensure_active({POOL: UID}, cause=CAUSE)


EXT4: dict[str, Any] = {"filesystem": Filesystem.EXT4}
XFS: dict[str, Any] = {"filesystem": Filesystem.XFS}
STRIPED: dict[str, Any] = {"layout": Layout.STRIPED, "stripes": 2}
THIN: dict[str, Any] = {"layout": Layout.THIN}
LOCKED: dict[str, Any] = {"keys": ("file:old",)}
BOTH = ("file:new", "file:old")
KEPT = made(volume("kept", 40, **EXT4))
MOUNTED: dict[str, Any] = {"mount_point": "/mnt/v1", "cgroup": "web"}
LOCKED_IN_USE = use("v1", **MOUNTED, **EXT4, **LOCKED)
IN_USE = use("v1", **MOUNTED, **EXT4, limits=Limits(read_iops=100))

# What was there before, what is done; every case keeps the data of the volume "kept", if any.
CASES: dict[str, tuple[list[Step | Write | ByHand], Step]] = {
    "form a pool": ([], pool(2)),
    "extend a pool": ([pool(1), KEPT], wider_pool),
    "remove a pool": ([pool(2), thin_pool(100)], no_pool),
    "make a thin pool": ([pool(2), KEPT], thin_pool(200)),
    "grow a thin pool": ([pool(2), KEPT, thin_pool(200)], thin_pool(300)),
    "grow a thin pool and its metadata": (
        [pool(2), KEPT, thin_pool(200), made(volume("v1", **THIN))],
        thin_pool_size(300, 40),
    ),
    "make a linear volume": ([pool(2), KEPT], made(volume("v1"))),
    "make an ext4 volume": ([pool(2), KEPT], made(volume("v1", **EXT4))),
    "make an xfs volume": ([pool(2), KEPT], made(volume("v1", **XFS))),
    "make a striped volume": ([pool(2), KEPT], made(volume("v1", **STRIPED, **EXT4))),
    "make a thin volume": ([pool(2), KEPT, thin_pool(200)], made(volume("v1", **THIN, **XFS))),
    "make a larger volume than there is": ([pool(2), KEPT], made(volume("kept", 80, **EXT4))),
    "grow an ext4 volume": (
        [pool(2), KEPT, made(volume("v1", **EXT4))],
        sized(volume("v1", 400, **EXT4)),
    ),
    "grow an xfs volume": (
        [pool(2), KEPT, made(volume("v1", **XFS))],
        sized(volume("v1", 400, **XFS)),
    ),
    "remove a volume": ([pool(2), KEPT, made(volume("v1", **EXT4))], removed("v1")),
    "remove a thin volume": (
        [pool(2), KEPT, thin_pool(200), made(volume("v1", **THIN))],
        removed("v1"),
    ),
    "attach a volume": ([pool(2), KEPT, made(volume("v1", **EXT4))], attached(IN_USE)),
    "attach a volume read only": (
        [pool(2), KEPT, made(volume("v1", **XFS))],
        attached(use("v1", mount_point="/mnt/v1", **XFS, read_only=True)),
    ),
    "attach a volume again after a reboot": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), attached(IN_USE)],
        attached(IN_USE),
    ),
    "detach a volume": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), attached(IN_USE)],
        detached(IN_USE),
    ),
    "limit a volume": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), attached(IN_USE)],
        attached(use("v1", **MOUNTED, **EXT4, limits=Limits(write_bytes_per_s=MIB))),
    ),
    "grow an attached ext4 volume": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), attached(IN_USE)],
        sized(volume("v1", 400, **EXT4)),
    ),
    "grow an attached xfs volume that nobody has mounted": (
        [pool(2), KEPT, made(volume("v1", **XFS)), attached(use("v1", **XFS))],
        sized(volume("v1", 400, **XFS)),
    ),
    "take a snapshot": ([pool(2), KEPT, made(volume("v1", **EXT4)), Write("now")], taken()),
    "extend a snapshot": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), Write("then"), taken(), Write("now")],
        more_room(),
    ),
    "take a thin snapshot": (
        [pool(2), KEPT, thin_pool(200), made(volume("v1", **THIN)), Write("now")],
        taken(thin=True),
    ),
    "take a snapshot of an attached volume": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), attached(IN_USE), Write("now")],
        taken(),
    ),
    "take snapshots at one instant": (
        [
            *(pool(2), KEPT, made(volume("v1", **EXT4)), made(volume("v2", 40))),
            *(attached(IN_USE), Write("now")),
        ],
        taken_together,
    ),
    "take snapshots at one instant on two nodes": (
        [
            *(pool(2), KEPT, made(volume("v1", **EXT4)), made(volume("v2", 40))),
            *(attached(IN_USE), Write("now")),
        ],
        led_beside,
    ),
    "remove a snapshot": ([pool(2), KEPT, made(volume("v1", **EXT4)), taken()], removed("s1")),
    "roll back": (
        [pool(2), KEPT, made(volume("v1")), Write("then"), taken(), Write("now"), taken("s2")],
        rolled_back(),
    ),
    "roll a thin volume back": (
        [
            *(pool(2), KEPT, thin_pool(200), made(volume("v1", **THIN)), Write("then")),
            *(taken(thin=True), Write("now")),
        ],
        rolled_back(thin=True),
    ),
    "copy a snapshot": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), taken()],
        copied(volume("v2", 400, **EXT4)),
    ),
    "copy a snapshot of an xfs": (
        [pool(2), KEPT, made(volume("v1", **XFS)), taken()],
        copied(volume("v2", 320, **XFS)),
    ),
    "copy a thin snapshot": (
        [pool(2), KEPT, thin_pool(200), made(volume("v1", **THIN, **XFS)), taken(thin=True)],
        copied(volume("v2", 400, **THIN, **XFS), thin=True),
    ),
    "make an encrypted volume": ([pool(2), KEPT], made(volume("v1", **LOCKED))),
    "make an encrypted ext4 volume": ([pool(2), KEPT], made(volume("v1", **LOCKED, **EXT4))),
    "make a thin encrypted xfs volume": (
        [pool(2), KEPT, thin_pool(400)],
        made(volume("v1", **LOCKED, **THIN, **XFS)),
    ),
    "grow an encrypted xfs volume": (
        [pool(2), KEPT, made(volume("v1", **LOCKED, **XFS)), Write("now")],
        sized(volume("v1", 400, **LOCKED, **XFS)),
    ),
    "attach an encrypted volume": (
        [pool(2), KEPT, made(volume("v1", **LOCKED, **EXT4)), Write("now")],
        attached(LOCKED_IN_USE),
    ),
    "attach an encrypted volume again after a reboot": (
        [pool(2), KEPT, made(volume("v1", **LOCKED, **EXT4)), attached(LOCKED_IN_USE)],
        attached(LOCKED_IN_USE),
    ),
    "detach an encrypted volume": (
        [pool(2), KEPT, made(volume("v1", **LOCKED, **EXT4)), attached(LOCKED_IN_USE)],
        detached(LOCKED_IN_USE),
    ),
    "grow an attached encrypted volume": (
        [pool(2), KEPT, made(volume("v1", **LOCKED, **EXT4)), attached(LOCKED_IN_USE)],
        sized(volume("v1", 400, **LOCKED, **EXT4)),
    ),
    "hold an encrypted volume": (
        [pool(2), KEPT, made(volume("v1", **LOCKED)), Write("now")],
        unused(volume("v1", **LOCKED)),
    ),
    "roll an encrypted volume back": (
        [pool(2), KEPT, made(volume("v1", **LOCKED)), Write("then"), taken(), Write("now")],
        rolled_back(),
    ),
    "add a key": (
        [pool(2), KEPT, made(volume("v1", **LOCKED)), Write("now")],
        rekeyed(*BOTH),
    ),
    "drop a key": (
        [pool(2), KEPT, made(volume("v1", **LOCKED)), Write("now"), rekeyed(*BOTH)],
        rekeyed("file:new", dropped=("file:old",)),
    ),
    "add and drop a key at once": (
        [pool(2), KEPT, made(volume("v1", **LOCKED, **EXT4)), attached(LOCKED_IN_USE)],
        rekeyed("file:new", dropped=("file:old",)),
    ),
    "remove an encrypted volume": (
        [pool(2), KEPT, made(volume("v1", **LOCKED, **EXT4)), Write("now")],
        removed("v1"),
    ),
    "remove a thin encrypted volume": (
        [pool(2), KEPT, thin_pool(400), made(volume("v1", **LOCKED, **THIN)), Write("now")],
        removed("v1"),
    ),
    "back a snapshot up": ([pool(2), KEPT, made(volume("v1", **EXT4)), taken()], backed_up),
    "restore a backup": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), taken(), backed_up],
        restored(volume("v2", 400, **EXT4)),
    ),
    "give a volume its name back": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), Write("now"), RENAMED],
        mended(volume("v1", **EXT4), Mend.UNDO, "taken"),
    ),
    "take a size by hand over": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), Write("now"), GROWN],
        mended(volume("v1", **EXT4), Mend.SIZE, "v1", 360),
    ),
    "make a lost volume anew": (
        [pool(2), KEPT, made(volume("v1", **EXT4)), Write("now"), LOST],
        mended(volume("v1", **EXT4), Mend.RECREATE),
    ),
    "adopt a volume": ([pool(2), KEPT, THEIRS], adopted),
    "give an adopted volume back": ([pool(2), KEPT, THEIRS, adopted], given_back),
    "put a volume aside": ([pool(2), KEPT, THEIRS], by_hand.put(PutAside)),
    "put a volume back": ([pool(2), KEPT, THEIRS, by_hand.put(PutAside)], by_hand.put(PutBack)),
    "activate": ([pool(2), KEPT, made(volume("v1"))], active),
    "make a whole disk": ([pool(2), KEPT], whole_disk(raw())),
    "make a whole disk with xfs": ([pool(2), KEPT], whole_disk(raw(**XFS))),
    "free a disk": ([pool(2), KEPT, whole_disk(raw(**EXT4))], freed(Wiping.DISCARD)),
    "free a disk with zeros": ([pool(2), KEPT, whole_disk(raw(**EXT4))], freed(Wiping.ZERO)),
}


class Run:
    """A machine on which the steps before were done, and a driver as fresh as after a crash."""

    def __init__(self, name: str) -> None:
        self.machine = SimulatedMachine.with_disks("n1", [2 * GIB] * 3)
        self.machine.add_cgroup("web", "io")
        self.before, self.step = CASES[name]
        self.disks = asyncio.run(self._disks())
        for step in self.before:
            if isinstance(step, Write):
                self.machine.write("fast/v1", step.data)
                continue
            if isinstance(step, ByHand):
                self._by_hand(step)
                continue
            asyncio.run(self._do(step, self.fresh()))
        if KEPT in self.before:
            self.machine.write("fast/kept", "precious")
        if name == "activate" or "reboot" in name:
            self.machine.reboot()
            self.machine.add_cgroup("web", "io")

    def _by_hand(self, step: ByHand) -> None:
        asyncio.run(self.fresh().run(step.argv, cause="a person", timeout_s=60))
        for vg in self.machine.state.vgs:
            by_hand.LVS.update({lv.name: lv.uuid for lv in vg.lvs})
        if step is THEIRS:
            self.machine.write(f"{POOL}/theirs", "precious, too")

    def fresh(self, faults: Faults | None = None) -> SimulatedRunner:
        faults = faults or Faults(seed=0)
        return SimulatedRunner(self.machine, ManualClock().now, faults)

    def act(self, runner: SimulatedRunner) -> None:
        asyncio.run(self._do(self.step, runner))

    def end(self) -> object:
        """Return all there is but what differs every time, having checked that no data went."""
        if KEPT in self.before:
            assert self.machine.read("fast/kept") == "precious"
        seen = asyncio.run(observe(self.fresh(), self.machine, node=NODE, cause=CAUSE))
        disks = [(disk.identity, disk.content.kind, disk.stamped) for disk in seen.disks]
        pools = [(one.name, one.uid, one.free_bytes) for one in seen.pools]
        filesystems = [
            (one.pool, one.name, content.kind, content.uuid, content.size_bytes, content.finished)
            for one in seen.volumes
            if not one.is_thin_pool
            for content in [self.machine.content(f"{one.pool}/{one.name}")]
        ]
        data = [
            (one.name, self.machine.read(f"{one.pool}/{one.name}"))
            for one in seen.volumes
            if not one.is_thin_pool
        ]
        volumes = [
            (one.name, one.uid, one.size_bytes, one.layout, one.stripes, one.active, one.open)
            for one in seen.volumes
        ]
        aside = [(one.name, one.claim) for one in seen.volumes if one.claim]
        state = self.machine.state
        in_use = (state.mounts, state.mapped, state.links, state.cgroups)
        slots = sorted((key, one.slots) for key, one in state.contents.items() if one.slots)
        written = msgspec.json.encode(state)
        assert not any(secret(name)[:20] in written for name in BOTH)
        return slots, disks, pools, volumes, aside, data, filesystems, in_use

    async def _disks(self) -> list[PoolDisk]:
        seen = await observe(self.fresh(), self.machine, node=NODE, cause=CAUSE)
        return [PoolDisk(disk=one.identity, path=one.path) for one in seen.disks[1:]]

    async def _do(self, step: Step, runner: SimulatedRunner) -> None:
        keys, own = HeldKeys(*BOTH), TestersSecrets()
        storage = LvmStorage(runner, self.machine, node=NODE, keys=keys, credentials=own)
        await step(storage, self.disks)


def undisturbed(name: str) -> tuple[object, int]:
    run = Run(name)
    runner = run.fresh()
    run.act(runner)
    return run.end(), runner.executions


@pytest.mark.parametrize("name", CASES)
def test_a_crash_after_any_execution_changes_nothing_in_the_end(name: str) -> None:
    expected, executions = undisturbed(name)
    assert executions > 0
    for count in range(1, executions + 1):
        run = Run(name)
        dying = run.fresh()
        dying.crash_after_execution(count)
        with pytest.raises(SimulatedCrash):
            run.act(dying)
        run.act(run.fresh())
        assert run.end() == expected, f"crashed after execution {count} of {executions}"


@pytest.mark.parametrize("name", CASES)
def test_two_crashes_in_a_row_change_nothing_in_the_end(name: str) -> None:
    expected, executions = undisturbed(name)
    for count in range(1, executions + 1):
        run = Run(name)
        for _ in range(2):
            dying = run.fresh()
            dying.crash_after_execution(count)
            try:
                run.act(dying)
            except SimulatedCrash:
                continue
        run.act(run.fresh())
        assert run.end() == expected, f"crashed twice after execution {count} of {executions}"


@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(CASES)))
def test_any_bad_day_ends_as_a_good_one(seed: int, name: str) -> None:
    expected, _ = undisturbed(name)
    run = Run(name)
    bad_day = Faults(
        seed=seed, fail_before=0.2, fail_after=0.15, time_out=0.1, crash_before=0.1, crash_after=0.2
    )
    runner = run.fresh(bad_day)
    for _ in range(20):  # more attempts than there can be faults
        try:
            run.act(runner)
            break
        except SimulatedCrash:
            # The next life has the rest of the day before it, and fewer faults left.
            bad_day = Faults(seed=seed + runner.executions + 1, fail_before=0.2, faults_max=3)
            runner = run.fresh(bad_day)
        except StorageError:
            continue
    else:
        pytest.fail("never done")
    assert run.end() == expected


@pytest.mark.parametrize("name", ["roll back", "roll a thin volume back"])
def test_a_rollback_brings_the_data_back(name: str) -> None:
    run = Run(name)
    run.act(run.fresh())
    assert run.machine.read("fast/v1") == "then"


def test_a_rollback_that_is_withdrawn_is_either_done_or_never_was() -> None:
    _, executions = undisturbed("roll back")
    ends = []
    for count in range(1, executions + 1):
        run = Run("roll back")
        dying = run.fresh()
        dying.crash_after_execution(count)
        with pytest.raises(SimulatedCrash):
            run.act(dying)
        asyncio.run(run._do(kept_or_merged, run.fresh()))
        there = any(lv.name == "s1" for lv in run.machine.state.vgs[0].lvs)
        assert run.machine.read("fast/v1") == ("now" if there else "then")
        assert not any("merged" in tag for tag in run.machine.volume("fast/v1").tags) or not there
        assert all(lv.active for lv in run.machine.state.vgs[0].lvs)
        ends.append(there)
    assert ends == sorted(ends, reverse=True)
    assert set(ends) == {True, False}


def test_a_snapshot_whose_volume_lies_on_a_missing_disk_keeps_no_other_from_being_active() -> None:
    run = Run("form a pool")
    run.act(run.fresh())
    wide = volume("v1", 2028)  # the whole first disk, so that the rest lies on the second
    for step in (made(wide), taken(), made(volume("v2", 40))):
        asyncio.run(run._do(step, run.fresh()))
    run.machine.reboot()
    run.machine.pull("sdb")
    asyncio.run(run._do(active, run.fresh()))
    assert {lv.name: lv.active for lv in run.machine.state.vgs[0].lvs} == {
        "v1": False,
        "s1": False,
        "v2": True,
    }


def test_a_filesystem_that_was_half_made_is_made_again() -> None:
    expected, _ = undisturbed("make an xfs volume")
    run = Run("make an xfs volume")
    for torn in ("lvcreate", "mkfs.xfs"):
        with pytest.raises(SimulatedCrash, match=torn):
            run.act(run.fresh(Faults(seed=1, torn=1.0, faults_max=1)))
    assert not run.machine.content("fast/v1").finished
    run.act(run.fresh())
    assert run.end() == expected


def test_a_header_that_was_half_made_is_made_again() -> None:
    expected, _ = undisturbed("make an encrypted ext4 volume")
    run = Run("make an encrypted ext4 volume")
    for torn in ("lvcreate", "cryptsetup"):
        with pytest.raises(SimulatedCrash, match=torn):
            run.act(run.fresh(Faults(seed=1, torn=1.0, faults_max=1)))
    header = run.machine.header("fast/v1")
    assert (header.kind, header.slots) == ("crypto_LUKS", [])
    run.act(run.fresh())
    assert run.end() == expected


@pytest.mark.parametrize("name", ["add a key", "drop a key", "add and drop a key at once"])
def test_whenever_a_worker_dies_a_known_key_opens_the_volume(name: str) -> None:
    _, executions = undisturbed(name)
    known = {hashlib.sha256(secret(reference)).hexdigest() for reference in BOTH}
    for count in range(1, executions + 1):
        run = Run(name)
        dying = run.fresh()
        dying.crash_after_execution(count)
        with pytest.raises(SimulatedCrash):
            run.act(dying)
        assert known & set(run.machine.header("fast/v1").slots)


@pytest.mark.parametrize("name", ["remove an encrypted volume", "remove a thin encrypted volume"])
def test_nothing_that_a_key_could_open_outlives_a_volume(name: str) -> None:
    run = Run(name)
    assert run.machine.read("fast/v1") == "now"
    run.act(run.fresh())
    assert not any(one.slots or one.inner for one in run.machine.state.contents.values())


def test_what_an_earlier_volume_left_behind_is_never_taken_for_ours() -> None:
    run = Run("make an ext4 volume")
    run.act(run.fresh())
    run.machine.remove_volume("fast/v1")
    torn = run.fresh(Faults(seed=1, torn=1.0, faults_max=1))
    other = volume("v2", **EXT4)
    with pytest.raises(SimulatedCrash):
        asyncio.run(run._do(made(other), torn))
    torn_again = asyncio.run(_refusal(run, other))
    assert torn_again == "foreign-signature"


async def _refusal(run: Run, wanted: VolumeSpec) -> str:
    try:
        await run._do(made(wanted), run.fresh())
    except RefusedToTouchError as refusal:
        return refusal.reason
    return "none"
