"""The storage contract on a real kernel: snapshots, and what is made of them."""

import pytest

from tests.support.copy_contract import CopyContract
from tests.support.instant_contract import InstantContract
from tests.support.lab_bench import LabBench, until_it_ends
from tests.support.snapshot_contract import SnapshotContract, snapshot
from tests.support.storage_bench import CAUSE, UID, Play, Story, play_on, spec

pytestmark = pytest.mark.lab


class TestSnapshotsOnARealKernel(SnapshotContract, InstantContract, CopyContract):
    @pytest.fixture
    def play(self, bench: LabBench) -> Play:
        return play_on(bench)


@pytest.mark.slow
def test_a_crash_between_any_two_tools_of_a_rollback_ends_well_on_a_real_kernel(
    bench: LabBench,
) -> None:
    wanted = snapshot()

    async def story(on: Story) -> None:
        await on.pool()
        await on.volume(spec())
        await on.bench.write("fast/v1", "before")
        await until_it_ends(on.bench, lambda s: s.ensure_snapshot(UID, wanted, cause=CAUSE))
        await on.bench.write("fast/v1", "after")
        await until_it_ends(on.bench, lambda s: s.ensure_rolled_back(UID, wanted, cause=CAUSE))
        assert await on.bench.read("fast/v1") == "before"
        assert await on.seen("s1") is None

    play_on(bench)(story)
