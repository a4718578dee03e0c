"""The contract of replication on two simulated machines; ``tests/lab`` has it on real kernels."""

from collections.abc import Awaitable, Callable

import pytest

from tests.support.encrypted_replication_contract import EncryptedReplicationContract
from tests.support.replication_contract import PlayPair, ReplicationContract, Tale
from tests.support.simulated_pair import SimulatedPair
from tests.support.virtual_time import run_virtually


@pytest.fixture
def pair() -> PlayPair:
    def play(tale: Callable[[Tale], Awaitable[None]]) -> None:
        async def act() -> None:
            pair = SimulatedPair()
            await pair.begin()
            try:
                await tale(Tale(pair))
            finally:
                await pair.end()

        run_virtually(act)

    return play


class TestReplicationOnSimulatedMachines(ReplicationContract, EncryptedReplicationContract):
    pass
