"""What every ReplicatedStorage must do with encrypted volumes: two machines, as ever, and keys."""

from typing import Any

import pytest

from node_workers.keys import NoKeyError
from node_workers.ports import (
    Filesystem,
    InUseError,
    Refusal,
    RefusedToTouchError,
    UnsuitableError,
    VolumeSpec,
)
from node_workers.replication import Role, Start, Verdict
from schemas.keys import HEADER_BYTES
from tests.support.encryption_contract import NEW, OLD, TEXT
from tests.support.replication_contract import (
    DEVICE,
    SIZE,
    TARGET,
    Machine,
    PlayPair,
    Tale,
    loses,
    reason,
)
from tests.support.storage_bench import CAUSE, MIB, POOL


class EncryptedReplicationContract:
    """Inherit it and give a ``pair`` fixture of two machines with empty pools."""

    def test_of_an_encrypted_volume_there_is_one_header_and_no_plain_text_on_any_leg(
        self, pair: PlayPair
    ) -> None:
        mounted: dict[str, Any] = {"filesystem": Filesystem.EXT4, "mount_point": TARGET}

        async def keys(
            on: Tale, machine: Machine, *now: str, dropped: tuple[str, ...] = (), **more: bool
        ) -> None:
            await machine.storage.ensure_replicated_keys(
                on.leg(keys=now),
                on.spec(),
                dropped,
                cause=CAUSE,
                **({"elsewhere": False} | more),
            )

        async def tale(on: Tale) -> None:
            a, b = on.a, on.b
            on.keys = (OLD,)
            await on.tied()
            kind = on.leg(filesystem=Filesystem.EXT4)
            held = a.held.pop(OLD)
            made = a.storage.ensure_filesystem(kind, on.spec(), cause=CAUSE)
            assert await reason(made, NoKeyError) == "key-missing"
            a.held[OLD] = held
            await leaves_alone(on, kind)
            sums = []
            for _ in range(2):
                await a.storage.ensure_filesystem(kind, on.spec(), cause=CAUSE)
                sums.append(await a.sum(HEADER_BYTES // MIB))
            assert sums[0] == sums[1]  # not made again
            await on.attach(a, **mounted)
            await a.shell(f"yes '{TEXT}' | head -n 5000 >{TARGET}/file; sync {TARGET}/file")
            then = await a.shell(f"md5sum <{TARGET}/file")
            assert await reason(on.attach(b, **mounted), InUseError) == "peer-is-primary"
            await on.detach(a, **mounted)
            await on.attach(b, **mounted)
            assert await b.shell(f"md5sum <{TARGET}/file") == then
            assert not await a.finds(TEXT)
            assert not await b.finds(TEXT)
            # Also where it is not written to, there has to be a key for the day when it is.
            gone = keys(on, a, "file:gone", OLD, elsewhere=True)
            assert await reason(gone, NoKeyError) == "key-missing"
            await keys(on, a, NEW, OLD, elsewhere=True)
            for _ in range(2):
                await keys(on, b, NEW, OLD)
                await keys(on, b, NEW, dropped=(OLD,))
            await on.detach(b, **mounted)
            assert await reason(on.attach(a, **mounted), UnsuitableError) == "wrong-key"
            await on.detach(a, **mounted)
            await keys(on, a, OLD, NEW)
            await keys(on, a, OLD, dropped=(NEW,))
            await on.attach(a, **mounted)
            await grows(on, mounted)
            assert await a.shell(f"md5sum <{TARGET}/file") == then
            await on.detach(a, **mounted)

        pair(tale)

    def test_an_encrypted_volume_in_use_becomes_replicated_and_moves_and_is_plain_again(
        self, pair: PlayPair
    ) -> None:
        """No key is needed to lay it on something else; and none is, to take it from who lost."""

        async def tale(on: Tale) -> None:
            a, b = on.a, on.b
            on.keys = (OLD,)
            await a.storage.ensure_volume(a.pool_uid, on.plain(), cause=CAUSE)
            await on.attach(a, replication=None)
            await a.write_on(DEVICE)
            a.held.clear()
            for _ in range(2):
                await on.tie(a)
                assert (await on.state(a)).role is Role.PRIMARY
            await on.goes_on(a)
            await b.storage.ensure_volume(b.pool_uid, on.leg(), cause=CAUSE)
            await on.tie(b, Start.NOTHING)
            await on.in_step()
            await a.judge(Verdict.LOST)
            await b.judge(Verdict.GRANTED)
            await on.pair.part()
            await on.until(a, lambda state: state.frozen)
            a.held[OLD] = b.held[OLD]
            await loses(on)
            await a.storage.ensure_replica_down("v1", "uid-v1", force=False, cause=CAUSE)
            await b.write_on(DEVICE)
            b.held.clear()
            for _ in range(2):
                await b.storage.ensure_plain(b.pool_uid, on.leg(), uid="uid-v1", cause=CAUSE)
            assert await b.storage.replication_states(cause=CAUSE) == {}
            await on.goes_on(b)
            await b.stop_writing()
            assert await b.found(DEVICE) >= b.written()
            await on.detach(b, replication=None)
            await b.storage.ensure_volume_removed(b.pool_uid, POOL, "uid-v1", "v1", cause=CAUSE)

        pair(tale)


async def leaves_alone(on: Tale, kind: VolumeSpec) -> None:
    """Have what may be somebody's data on the device: no header is made over that."""
    device = (await on.state(on.a)).device
    await on.a.shell(f"drbdadm primary hwbus-v1; mkfs.ext4 -q {device} 16M; sync {device}")
    before = await on.a.sum(SIZE // MIB)
    with pytest.raises(RefusedToTouchError) as caught:
        await on.a.storage.ensure_filesystem(kind, on.spec(), cause=CAUSE)
    assert caught.value.refusal is Refusal.FOREIGN_SIGNATURE
    assert await on.a.sum(SIZE // MIB) == before
    await on.a.shell(f"wipefs -qa {device}")


async def grows(on: Tale, mounted: dict[str, Any]) -> None:
    """Have an encrypted volume, mounted on a, larger; without its key nothing is."""
    a, b, size_bytes = on.a, on.b, SIZE + 8 * MIB

    async def grow(machine: Machine) -> int:
        leg = on.leg(size_bytes, filesystem=Filesystem.EXT4)
        spec = on.spec(size_bytes)
        grown = machine.storage.ensure_replicated_size(machine.pool_uid, leg, spec, cause=CAUSE)
        return (await grown).size_bytes

    count = f"stat -f -c '%b * %S' {TARGET}"
    lv_bytes = f"blockdev --getsize64 /dev/{POOL}/v1"
    before = await a.shell(lv_bytes)
    held = a.held.pop(OLD)
    assert await reason(grow(a), NoKeyError) == "key-missing"
    assert await a.shell(lv_bytes) == before
    a.held[OLD] = held
    for machine in (b, a):
        await grow(machine)
    assert await grow(a) == size_bytes + HEADER_BYTES
    del a.held[OLD]  # there is nothing more to be had with it
    assert await grow(a) == size_bytes + HEADER_BYTES
    assert eval(await a.shell(count)) > SIZE  # noqa: S307 -- two numbers
    assert await a.shell(f"blockdev --getsize64 {DEVICE}") == f"{size_bytes}\n"
