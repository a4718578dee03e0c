"""The storage contract on a real kernel: volumes in use, encrypted or not."""

import pytest
from msgspec.structs import replace

from tests.support.attachment_contract import AttachmentContract, attach, detach
from tests.support.encryption_contract import DEVICE, NEW, OLD, EncryptionContract, locked, use
from tests.support.growth_contract import GrowthContract
from tests.support.lab_bench import LabBench, until_it_ends
from tests.support.mending_contract import MendingContract
from tests.support.storage_bench import CAUSE, MIB, POOL, UID, Play, Story, play_on

pytestmark = pytest.mark.lab


class TestUseOnARealKernel(AttachmentContract, EncryptionContract, GrowthContract, MendingContract):
    @pytest.fixture
    def play(self, bench: LabBench) -> Play:
        return play_on(bench)


@pytest.mark.slow
def test_a_crash_between_any_two_tools_of_encryption_ends_well_on_a_real_kernel(
    bench: LabBench,
) -> None:
    wanted, grown = locked(), locked(140)
    rekeyed, dropped = locked(100, NEW), (OLD,)

    async def story(on: Story) -> None:
        await on.pool()
        await until_it_ends(on.bench, lambda s: s.ensure_volume(UID, wanted, cause=CAUSE))
        assert (await on.seen() or wanted).size_bytes == 116 * MIB
        await until_it_ends(on.bench, lambda s: s.ensure_attached(UID, use(), cause=CAUSE))
        await on.bench.write(DEVICE, "precious")
        await until_it_ends(
            on.bench, lambda s: s.ensure_volume_keys(UID, rekeyed, dropped, cause=CAUSE)
        )
        await until_it_ends(on.bench, lambda s: s.ensure_detached(use(), cause=CAUSE))
        await until_it_ends(
            on.bench,
            lambda s: s.ensure_volume_size(UID, replace(grown, keys=(OLD, NEW)), cause=CAUSE),
            30,
        )
        await attach(on, use(NEW))
        assert await on.bench.read(DEVICE) == "precious"
        await detach(on, use(NEW))
        await until_it_ends(
            on.bench, lambda s: s.ensure_volume_removed(UID, POOL, "uid-v1", "v1", cause=CAUSE)
        )
        assert await on.seen() is None

    play_on(bench)(story)
