"""What every Storage must do with encrypted volumes, whatever machine it is on."""

from collections.abc import Awaitable
from typing import Any

import pytest
from msgspec.structs import replace

from node_workers.keys import NoKeyError
from node_workers.luks import luks_uuid
from node_workers.ports import (
    Attachment,
    Filesystem,
    InUseError,
    Layout,
    NotThereError,
    Refusal,
    StorageError,
    UnsuitableError,
    VolumeSpec,
)
from tests.support.attachment_contract import TARGET, attach, detach, devices, wish
from tests.support.keys import secret
from tests.support.snapshot_contract import snapshot
from tests.support.storage_bench import CAUSE, MIB, POOL, UID, Play, Story, spec

OLD, NEW = "file:old", "file:new"
TEXT = "nobody shall read this"
LV, DEVICE = "fast/v1", "hwbus/v1"


def locked(mib: int = 100, *keys: str, **more: Any) -> VolumeSpec:
    """Return a volume that has *mib* behind its header."""
    return spec(mib=mib + 16, keys=keys or (OLD,), **more)


def use(*keys: str, **more: Any) -> Attachment:
    return wish(keys=keys or (OLD,), **more)


async def why(asked: Awaitable[object]) -> str:
    with pytest.raises(StorageError) as caught:
        await asked
    return caught.value.reason


async def opens(on: Story, key: bytes) -> bool:
    """Whether a person with that key could open the leg."""
    argv = ("cryptsetup", "open", "--test-passphrase", "--key-file", "-", f"/dev/{LV}")
    done = await on.bench.runner.run(argv, cause="a person", timeout_s=60, stdin=key)
    assert done.exit_status in {0, 2}, done
    return done.exit_status == 0


async def formatted_by_hand(on: Story, uuid: str) -> None:
    argv = ("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--uuid", uuid)
    slot = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-")
    done = await on.bench.runner.run(
        (*argv, *slot, f"/dev/{LV}"), cause="a person", timeout_s=60, stdin=secret("a person")
    )
    assert done.exit_status == 0, done


class EncryptionContract:
    """Inherit it and give a ``play`` fixture: ``play_on`` a fresh bench for every test.

    Each test tells of several things that are close to one another, as with attachments.
    """

    def test_what_is_written_is_plain_only_on_its_device_and_only_while_attached(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            wanted = locked()
            state = await on.storage.ensure_volume(UID, wanted, cause=CAUSE)
            assert (state.size_bytes, state.changed) == (116 * MIB, True)
            assert not (await on.storage.ensure_volume(UID, wanted, cause=CAUSE)).changed
            seen = await on.seen()
            assert seen is not None
            assert not seen.open
            for _ in range(2):
                await attach(on, use())
                (device,) = await devices(on)
                assert device.size_bytes == 100 * MIB
            assert (await on.bench.console("wipefs", "-J", "-n", f"/dev/{DEVICE}")).stdout
            await on.bench.write(DEVICE, TEXT)
            assert await on.bench.read(DEVICE) == TEXT
            assert not await on.bench.finds(LV, TEXT)
            for _ in range(2):
                await detach(on, use())
                assert await devices(on) == []
            seen = await on.seen()
            assert seen is not None
            assert not seen.open
            await attach(on, use("file:gone", OLD))
            assert await on.bench.read(DEVICE) == TEXT

        play(story)

    @pytest.mark.parametrize("layout", [Layout.STRIPED, Layout.THIN])
    def test_it_grows_with_its_filesystem_attached_or_not(self, play: Play, layout: Layout) -> None:
        more: dict[str, Any] = {"layout": layout, "filesystem": Filesystem.EXT4}
        more |= {"stripes": 2} if layout is Layout.STRIPED else {}
        mounted = use(filesystem=Filesystem.EXT4, mount_point=TARGET)

        async def story(on: Story) -> None:
            await on.pool()
            if layout is Layout.THIN:
                await on.storage.ensure_thin_pool(UID, POOL, 400 * MIB, cause=CAUSE)
            await on.volume(locked(96, **more))
            await on.storage.ensure_volume_size(UID, locked(128, **more), cause=CAUSE)
            await attach(on, mounted)
            before = await on.bench.mounted_bytes(TARGET)
            assert before > 100 * MIB
            larger = locked(192, **more)
            del on.keys.held[OLD]
            assert await why(on.storage.ensure_volume_size(UID, larger, cause=CAUSE)) == (
                "key-missing"
            )
            seen = await on.seen()
            assert seen is not None
            assert seen.size_bytes == 144 * MIB
            on.keys.held[OLD] = secret(OLD)
            await on.storage.ensure_volume_size(UID, larger, cause=CAUSE)
            (device,) = await devices(on)
            assert device.size_bytes == 192 * MIB
            assert await on.bench.mounted_bytes(TARGET) > before + 40 * MIB
            on.keys.held.clear()  # there is nothing more to be had with it
            await on.storage.ensure_volume_size(UID, larger, cause=CAUSE)
            await detach(on, mounted)

        play(story)

    def test_another_key_opens_it_and_then_the_one_before_no_longer(self, play: Play) -> None:
        async def keys(on: Story, *keys: str, dropped: tuple[str, ...] = ()) -> None:
            await on.storage.ensure_volume_keys(UID, locked(100, *keys), dropped, cause=CAUSE)

        async def story(on: Story) -> None:
            await on.pool()
            await on.volume(locked())
            await attach(on, use())
            assert await why(keys(on, "file:gone", OLD)) == "key-missing"
            on.keys.held["file:twin"] = secret(OLD)
            assert await why(keys(on, "file:twin", OLD)) == "same-key"
            await keys(on, OLD, dropped=("file:gone", "file:twin"))
            for _ in range(2):
                await keys(on, NEW, OLD)
                assert [await opens(on, secret(one)) for one in (OLD, NEW)] == [True, True]
            for _ in range(2):
                await keys(on, NEW, dropped=(OLD,))
                assert [await opens(on, secret(one)) for one in (OLD, NEW)] == [False, True]
            on.keys.held[NEW] = secret("another")
            assert await why(keys(on, OLD, dropped=(NEW,))) == "wrong-key"
            assert [await opens(on, secret(one)) for one in (OLD, NEW)] == [False, True]
            await detach(on, use())
            assert await why(on.storage.ensure_attached(UID, use(NEW), cause=CAUSE)) == "wrong-key"
            on.keys.held[NEW] = secret(NEW)
            await attach(on, use(OLD, NEW))

        play(story)

    def test_no_header_is_made_twice_or_over_anything_and_none_outlives_its_volume(
        self, play: Play
    ) -> None:
        async def story(on: Story) -> None:
            await on.pool()
            with pytest.raises(NoKeyError):
                await on.volume(locked(100, "file:gone"))
            assert await on.seen() is None
            await on.volume(locked())
            held = secret("a person")
            await formatted_by_hand(on, luks_uuid("uid-v1"))  # as one that was made with another
            assert await why(on.storage.ensure_volume(UID, locked(), cause=CAUSE)) == "wrong-key"
            assert await opens(on, held)
            await on.bench.console("cryptsetup", "luksErase", "--batch-mode", f"/dev/{LV}")
            grown = on.storage.ensure_volume_size(UID, locked(200), cause=CAUSE)
            with pytest.raises(NotThereError) as missing:
                await grown
            assert missing.value.reason == "header-lost"
            await on.volume(locked())  # as one that died before the first key was in
            assert await opens(on, secret(OLD))
            await formatted_by_hand(on, "5b5ba6dc-7a42-4f3c-8a0b-4f9a7b0d6f11")
            for ensure in (on.storage.ensure_volume, on.storage.ensure_volume_size):
                assert await on.refused(ensure(UID, locked(), cause=CAUSE)) is (
                    Refusal.FOREIGN_SIGNATURE
                )
            assert await opens(on, held)
            await on.remove()
            await on.volume(locked())
            await on.remove()
            # Without wiping of its own, so that only the removal can have wiped.
            await on.bench.console("lvcreate", "--extents", "29", "--name", "v1", POOL)
            found = await on.bench.console("wipefs", "-J", "-n", f"/dev/{LV}")
            assert "LUKS" not in found.stdout

        play(story)

    @pytest.mark.parametrize("thin", [False, True])
    def test_it_is_held_and_rolled_back_as_any_other_volume(self, play: Play, thin: bool) -> None:
        more: dict[str, Any] = {"layout": Layout.THIN} if thin else {}
        kept = replace(snapshot(thin=thin), size_bytes=116 * MIB if thin else 40 * MIB)

        async def story(on: Story) -> None:
            await on.pool()
            if thin:
                await on.storage.ensure_thin_pool(UID, POOL, 400 * MIB, cause=CAUSE)
            await on.volume(locked(**more))
            await attach(on, use())
            await on.bench.write(DEVICE, "then")
            await on.storage.ensure_snapshot(UID, kept, cause=CAUSE)
            await on.bench.write(DEVICE, "now")
            with pytest.raises(InUseError):
                await on.storage.ensure_volume_unused(UID, locked(**more), cause=CAUSE)
            await detach(on, use())
            # As work leaves it that died before it had closed.
            opened = ("cryptsetup", "open", "--type", "luks2", "--key-file", "-", f"/dev/{LV}")
            left = (*opened, "hwbus-crypt:v1")
            await on.bench.runner.run(left, cause=CAUSE, timeout_s=60, stdin=secret(OLD))
            await on.storage.ensure_rolled_back(UID, kept, cause=CAUSE)
            await attach(on, use())
            assert await on.bench.read(DEVICE) == "then"
            await detach(on, use())
            await on.bench.runner.run(left, cause=CAUSE, timeout_s=60, stdin=secret(OLD))
            await on.storage.ensure_volume_unused(UID, locked(**more), cause=CAUSE)
            seen = await on.seen()
            assert seen is not None
            assert not seen.active
            await on.storage.ensure_volume_awake(UID, locked(**more), cause=CAUSE)
            with pytest.raises(UnsuitableError):
                await on.storage.ensure_attached(UID, wish(), cause=CAUSE)
            await attach(on, use())
            assert await on.bench.read(DEVICE) == "then"
            await detach(on, use())
            await on.remove()
            assert await on.seen() is None

        play(story)
