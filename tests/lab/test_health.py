"""What disks say of themselves, on real kernels: by the real smartctl, or by one that lies."""

import shlex
from collections.abc import Callable

import pytest

from schemas.deleting import DeleteVolume
from schemas.pool import FormPool
from schemas.refusals import Refusal
from schemas.volume import GrowVolume, ProvisionVolume
from tests.support.house import GIB, MIB, House, Row, Scene
from tests.support.smart import ata, nvme

pytestmark = pytest.mark.lab

# It takes the place of the real one, and knows the disks that somebody has told it of.
_TOOL = "/usr/sbin/smartctl"
_LIES = f"""mkdir -p /run/smart
[ -e {_TOOL}.real ] || mv {_TOOL} {_TOOL}.real
cat > {_TOOL} <<'EOF'
#!/bin/sh
for device; do :; done
told="/run/smart/${{device##*/}}"
[ -e "$told" ] || exec {_TOOL}.real "$@"
cat "$told"
exit "$(cat "$told.status")"
EOF
chmod +x {_TOOL}"""


async def _let(house: House, device: str, say: str, status: int) -> None:
    told = f"/run/smart/{device.rpartition('/')[2]}"
    script = f"echo {status} > {told}.status && echo {shlex.quote(say)} > {told}"
    await house.sh("n3", script)


async def _asked(house: House, device: str) -> list[Row]:
    tools = await house.rows("audit", kind="tool", node="n3")
    return [row for row in tools if row["argv"] == ["smartctl", "-j", "-a", device]]


async def _failing(house: House, **where: str) -> Row:
    async def is_so() -> bool:
        return bool(await house.rows("disks", state="failing", **where))

    await house.until(is_so, 20, what=f"{where} is failing")
    return await house.row("disks", **where)


def test_a_virtual_disk_is_unknown_to_smartctl_which_stands_in_nobodys_way(
    play: Callable[[Scene], None],
) -> None:
    async def scene(house: House) -> None:
        disk = await house.plug("n3")

        async def asked() -> bool:
            return bool(await _asked(house, disk.device))

        await house.until(asked, 20, what=f"{disk.device} was asked")
        tool = (await _asked(house, disk.device))[-1]
        assert tool["exit_status"] == 1  # "Unable to detect device type"
        assert tool["cause"].startswith("health:")
        row = await house.row("disks", id=disk.id)
        assert (row["state"], row["health"]) == ("free", "unknown")
        await house.unplug(disk)

    play(scene)


def test_a_disk_that_says_that_it_is_failing_gets_nothing_new_and_keeps_what_it_has(
    play: Callable[[Scene], None], unique: Callable[[str], str]
) -> None:
    pool, volume, serial = unique("pool"), unique("vol"), unique("serial")

    async def scene(house: House) -> None:
        await house.sh("n3", _LIES)
        member = await house.plug("n3")
        await house.form(pool, [member])
        await house.make(volume, member, pool, 64)
        spare = await house.plug("n3", "1G", serial=serial)
        await _let(house, spare.device, ata(passed=False, id5="24"), 1 << 3)
        await _let(house, member.device, nvme(media_errors=7), 0)
        await house.lab.service_kill("worker", "n3")
        await house.lab.service_start("worker", "n3")

        row = await _failing(house, id=spare.id)
        assert row["health_reasons"] == [
            "its overall SMART status is failed",
            "10 or more reallocated sectors",
        ]
        claim = await house.refused(FormPool(pool=unique("pool"), node="n3", disks=(spare.id,)))
        assert claim.code is Refusal.DISK_FAILING
        row = await _failing(house, id=member.id)
        assert (row["pool"], row["health"]) == (f"n3/{pool}", "failing")
        for wish in (
            ProvisionVolume(volume=unique("vol"), size_bytes=32 * MIB, pool=pool),
            GrowVolume(volume=volume, size_bytes=GIB),
        ):
            no = await house.refused(wish)
            assert no.code is Refusal.POOL_DISK_FAILING
            assert member.id in no.because
        await house.sh("n3", f"dd if=/dev/{pool}/{volume} of=/dev/null bs=1M status=none")
        await house.settled(pool, "n3")
        await house.done(DeleteVolume(volume=volume))
        await house.sh("n3", f"rm -r /run/smart && mv {_TOOL}.real {_TOOL}")
        await house.clear(pool, "n3", member)
        await house.unplug(spare)

    play(scene)
