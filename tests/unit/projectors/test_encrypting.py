"""A volume's row tells that it is encrypted and where its key is, and counts its header as room."""

from datetime import timedelta
from typing import Any

from projectors.tables import REPLICAS, USAGE, VOLUMES
from schemas.encrypting import VolumeRekeyed, VolumeRekeyingBegan, VolumeRekeyingFailed
from schemas.keys import HEADER_BYTES, Encryption
from schemas.refusals import Refusal
from schemas.replica import (
    ReplicaCreated,
    ReplicaRekeyed,
    ReplicaRekeyWanted,
    ReplicaResized,
    ReplicaSpec,
    ReplicaTroubled,
    ReplicaWanted,
)
from schemas.usage_view import UsageRow
from schemas.views import VolumeRow, VolumeState
from schemas.volume import VolumeProvisioned, VolumeProvisioningBegan
from tests.support.clock import NOON
from tests.unit.projectors.stories import GIB, Story, uid

OLD, NEW = "file:old", "vault:secret/data/pg#key"
LEG: dict[str, Any] = {"volume": "pg", "node": "n1"}
LEG_BYTES = GIB + HEADER_BYTES
BEGAN = VolumeRekeyingBegan(
    volume="pg",
    uid=uid(1),
    operation=uid(8),
    deadline=NOON + timedelta(hours=1),
    node="n1",
    from_key_ref=OLD,
    key_ref=NEW,
)


def story() -> Story:
    told = Story().node().pool()
    told.say(
        VolumeProvisioningBegan(
            volume="pg",
            uid=uid(1),
            operation=uid(9),
            deadline=NOON,
            size_bytes=GIB,
            candidates=(),
            key_ref=OLD,
        )
    )
    spec = ReplicaSpec(
        uid=uid(1), pool="fast", size_bytes=LEG_BYTES, encryption=Encryption(keys=(OLD,))
    )
    told.say(ReplicaWanted(**LEG, operation=uid(9), spec=spec))
    made = ReplicaCreated(
        **LEG, uid=uid(1), pool="fast", size_bytes=LEG_BYTES, device="/dev/fast/pg"
    )
    told.say(made)
    about: dict[str, Any] = {"volume": "pg", "uid": uid(1), "operation": uid(9), "node": "n1"}
    told.say(VolumeProvisioned(**about, pool="fast", size_bytes=GIB))
    return told


def volume(told: Story) -> VolumeRow:
    row = told.row(VOLUMES, "pg")
    assert row is not None
    return row


def usage(told: Story) -> UsageRow:
    return next(row for row in told.all(USAGE) if row.name == "pg")


def keys(told: Story) -> tuple[str, ...]:
    (row,) = told.all(REPLICAS)
    return row.keys


def test_an_encrypted_volume_shows_its_reference_and_what_people_have_of_it() -> None:
    told = story()
    row = volume(told)
    assert (row.encrypted, row.key_ref, row.size_bytes) == (True, OLD, GIB)
    assert keys(told) == (OLD,)
    assert usage(told).capacity_bytes == LEG_BYTES
    grown = ReplicaResized(**LEG, uid=uid(1), pool="fast", size_bytes=LEG_BYTES + GIB)
    told.say(grown)
    assert volume(told).size_bytes == 2 * GIB


def test_any_other_volume_is_not_encrypted_and_as_large_as_its_leg() -> None:
    told = Story().node().pool().volume("pg", 1, 2 * GIB)
    row = volume(told)
    assert (row.encrypted, row.key_ref, row.size_bytes) == (False, "", 2 * GIB)
    assert usage(told).capacity_bytes == 2 * GIB
    assert keys(told) == ()


def test_every_key_that_may_open_it_is_shown_until_it_does_no_more() -> None:
    told = story()
    told.say(BEGAN)
    assert (volume(told).state, volume(told).key_ref) == (VolumeState.REKEYING, OLD)
    about: dict[str, Any] = {**LEG, "operation": uid(8), "uid": uid(1)}
    both = Encryption(keys=(NEW, OLD), generation=2)
    told.say(ReplicaRekeyWanted(**about, encryption=both))
    assert keys(told) == (NEW, OLD)
    told.say(ReplicaRekeyed(**LEG, uid=uid(1), keys=(NEW, OLD), generation=2))
    alone = Encryption(keys=(NEW,), dropped=(OLD,), generation=3)
    told.say(ReplicaRekeyWanted(**about, encryption=alone))
    assert keys(told) == (NEW, OLD)
    told.say(ReplicaRekeyed(**LEG, uid=uid(1), keys=(NEW,), generation=3))
    assert keys(told) == (NEW,)
    told.say(VolumeRekeyed(volume="pg", operation=uid(8), key_ref=NEW))
    row = volume(told)
    assert (row.state, row.key_ref, row.operation) == (VolumeState.READY, NEW, "")


def test_a_key_that_was_not_changed_says_why() -> None:
    told = story()
    told.say(BEGAN)
    because = "there is no key file /etc/hwbus/keys/new"
    about: dict[str, Any] = {"code": Refusal.KEY_MISSING, "because": because}
    told.say(ReplicaTroubled(**LEG, uid=uid(1), **about, permanent=True))
    assert volume(told).why == because
    told.say(VolumeRekeyingFailed(volume="pg", operation=uid(8), **about))
    row = volume(told)
    assert (row.state, row.key_ref, row.code, row.why) == (
        VolumeState.READY,
        OLD,
        Refusal.KEY_MISSING,
        because,
    )
