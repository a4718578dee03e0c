"""Which volumes are encrypted, by which key they open, and that none is ever lost on the way."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given as law
from hypothesis import strategies as st
from msgspec.structs import replace

from aggregates import replica
from schemas.encrypting import (
    RekeyVolume,
    VolumeRekeyed,
    VolumeRekeyingBegan,
    VolumeRekeyingFailed,
)
from schemas.grammar import Event, Message
from schemas.keys import HEADER_BYTES, Encryption, Located, header_bytes, locate
from schemas.keys import KeySourceKind as Kind
from schemas.node import Capability, NodeJoined
from schemas.refusals import Refusal
from schemas.replica import (
    RekeyReplica,
    RemoveReplica,
    ReplicaCommand,
    ReplicaCreated,
    ReplicaRekeyed,
    ReplicaRekeyWanted,
    ReplicaSpec,
    ReplicaWanted,
    ReportReplicaRekeyed,
)
from schemas.snapshot import CreateSnapshot
from schemas.volume import (
    ConcludeVolume,
    GrowVolume,
    Layout,
    ProvisionVolume,
    VolumeLocked,
    VolumeProvisioningBegan,
)
from tests.support.given import GIB, OPERATION, OTHER, UID, given
from tests.support.words import DEADLINE, pool_ready, volume_ready

OLD, NEW = "file:old", "vault:secret/data/pg#key"
BUSY: dict[str, Any] = {"volume": "pg", "operation": OPERATION}
LEG: dict[str, Any] = {"volume": "pg", "node": "n1"}


def able(event: Event) -> Event:
    if isinstance(event, NodeJoined):
        return replace(event, capabilities=(Capability.LVM, Capability.ENCRYPTION))
    return event


def encrypted(event: Event) -> Event:
    match event:
        case VolumeProvisioningBegan():
            return replace(event, key_ref=OLD)
        case ReplicaWanted():
            return replace(event, spec=replace(event.spec, encryption=Encryption(keys=(OLD,))))
        case _:
            return event


def decided(past: Iterable[Event], command: Message) -> tuple[Event, ...]:
    decision = given(*past).decide(command)
    assert isinstance(decision, tuple), decision
    return decision


POOL = tuple(map(able, pool_ready("n1")))
PAST = (*POOL, *map(encrypted, volume_ready("n1")))
PLAIN = (*POOL, *volume_ready("n1"))
REKEY = RekeyVolume(volume="pg", key_ref=NEW)
BEGAN = VolumeRekeyingBegan(
    **BUSY, uid=UID, deadline=DEADLINE, node="n1", from_key_ref=OLD, key_ref=NEW
)
DONE = ConcludeVolume(**BUSY)
LATE = ConcludeVolume(**BUSY, code=Refusal.DEADLINE, because="late")
FAILED = VolumeRekeyingFailed(**BUSY, code=Refusal.DEADLINE, because="late")


@pytest.mark.parametrize(
    ("reference", "located"),
    [
        ("file:pg", Located(kind=Kind.FILE, name="pg")),
        ("file:pg-1.key", Located(kind=Kind.FILE, name="pg-1.key")),
        ("env:PG_1", Located(kind=Kind.ENV, name="PG_1")),
        ("vault:kv/data/pg#key", Located(kind=Kind.VAULT, name="kv/data/pg", field="key")),
        *((bad, None) for bad in ("file:../x", "file:a/b", "file:", "env:a", "vault:a", "x", "")),
        *((bad, None) for bad in ("vault:/a#k", "vault:a/#k", "vault:a/../b#k", "file:a\n")),
    ],
)
def test_a_reference_says_where_a_key_is_and_leads_nowhere_else(
    reference: str, located: Located | None
) -> None:
    assert locate(reference) == located


def test_a_volume_is_encrypted_by_a_key_of_which_only_the_reference_is_said() -> None:
    wish = ProvisionVolume(volume="pg", size_bytes=GIB, key_ref=OLD)
    (began,) = decided((*POOL,), wish)
    assert isinstance(began, VolumeProvisioningBegan)
    assert (began.key_ref, began.size_bytes) == (OLD, GIB)


@pytest.mark.parametrize("secret", ["hunter2", "file:../../etc/shadow", "s3cr3t/with#signs"])
def test_what_is_no_reference_is_refused_and_not_repeated(secret: str) -> None:
    for wish in (
        ProvisionVolume(volume="new", size_bytes=GIB, key_ref=secret),
        RekeyVolume(volume="pg", key_ref=secret),
    ):
        when = given(*PAST).when(wish)
        when.refused(Refusal.BAD_KEY_REFERENCE)
        assert secret not in str(when.decision)


def test_only_a_node_that_can_encrypt_is_a_place_for_it() -> None:
    wish = ProvisionVolume(volume="pg", size_bytes=GIB, key_ref=OLD)
    given(*pool_ready("n1")).when(wish).refused(Refusal.CANNOT_ENCRYPT, "n1")
    (began,) = decided(
        (
            *pool_ready("n2"),
            *POOL,
        ),
        wish,
    )
    assert isinstance(began, VolumeProvisioningBegan)
    assert [(c.node, c.code) for c in began.candidates] == [
        ("n1", None),
        ("n2", Refusal.CANNOT_ENCRYPT),
    ]


def test_the_header_is_room_that_the_pool_must_have() -> None:
    tight = tuple(map(able, pool_ready("n1", size_bytes=GIB)))
    wish = ProvisionVolume(volume="pg", size_bytes=GIB, layout=Layout.LINEAR)
    (began,) = decided((*tight,), wish)
    assert isinstance(began, VolumeProvisioningBegan)
    given(*tight).when(replace(wish, key_ref=OLD)).refused(Refusal.CAPACITY)
    fits = replace(wish, key_ref=OLD, size_bytes=GIB - HEADER_BYTES)
    (began,) = decided((*tight,), fits)
    assert isinstance(began, VolumeProvisioningBegan)
    assert (header_bytes(OLD), header_bytes(None), header_bytes("")) == (HEADER_BYTES, 0, 0)


def test_growing_and_snapshots_count_the_header_too() -> None:
    (grown,) = decided((*PAST,), GrowVolume(volume="pg", size_bytes=2 * GIB))
    assert getattr(grown, "header_bytes", 0) == HEADER_BYTES
    whole = CreateSnapshot(snapshot="s1", volume="pg", reserve_bytes=4 * GIB)
    reserves = [
        getattr(event, "reserve_bytes", 0)
        for past in (PLAIN, PAST)
        for event in decided((*past,), whole)
    ]
    assert reserves[1] - reserves[0] >= HEADER_BYTES


def test_a_volume_gets_another_key_as_an_operation() -> None:
    given(*PAST).when(REKEY).then(BEGAN)
    given(*PAST, BEGAN).when(DONE).then(VolumeRekeyed(**BUSY, key_ref=NEW))
    given(*PAST, BEGAN).when(LATE).then(FAILED)
    given(*PAST, BEGAN).when(replace(DONE, operation=OTHER)).nothing()
    given(*PAST, BEGAN).when(GrowVolume(volume="pg", size_bytes=2 * GIB)).refused(
        Refusal.VOLUME_BUSY, "rekeying"
    )
    back = replace(REKEY, key_ref=OLD)
    given(*PAST, BEGAN, VolumeRekeyed(**BUSY, key_ref=NEW)).when(back).then(
        replace(BEGAN, from_key_ref=NEW, key_ref=OLD)
    )
    given(*PAST, BEGAN, FAILED).when(REKEY).then(BEGAN)


def test_a_key_is_changed_only_where_there_is_one_and_into_another() -> None:
    given(*PLAIN).when(REKEY).refused(Refusal.NOT_ENCRYPTED)
    given(*PAST).when(replace(REKEY, key_ref=OLD)).refused(Refusal.SAME_KEY, OLD)
    given(*POOL).when(REKEY).refused(Refusal.UNKNOWN_VOLUME)


def test_a_snapshot_keeps_the_header_of_its_time_so_no_key_is_changed_beside_one() -> None:
    kept = VolumeLocked(volume="pg", uid=UID, operation=OPERATION, snapshot="s1")
    free = ConcludeVolume(volume="pg", operation=OPERATION)
    (unlocked,) = decided(
        (
            *PAST,
            kept,
        ),
        free,
    )
    given(*PAST, kept, unlocked).when(REKEY).refused(Refusal.HAS_SNAPSHOTS, "s1")


def wanted(*keys: str, dropped: tuple[str, ...] = (), generation: int = 2) -> ReplicaRekeyWanted:
    now = Encryption(keys=keys, dropped=dropped, generation=generation)
    return ReplicaRekeyWanted(**LEG, operation=OPERATION, uid=UID, encryption=now)


def rekey(*keys: str) -> RekeyReplica:
    return RekeyReplica(**LEG, operation=OPERATION, keys=keys)


def told(generation: int) -> ReportReplicaRekeyed:
    return ReportReplicaRekeyed(**LEG, uid=UID, generation=generation)


def rekeyed(*keys: str, generation: int = 2) -> ReplicaRekeyed:
    return ReplicaRekeyed(**LEG, uid=UID, keys=keys, generation=generation)


def test_a_leg_forgets_no_key_before_its_node_has() -> None:
    both = wanted(NEW, OLD)
    given(*PAST).when(rekey(NEW, OLD)).then(both)
    given(*PAST, both).when(rekey(NEW, OLD)).then(wanted(NEW, OLD, generation=3))
    given(*PAST, both).when(told(1)).nothing()
    given(*PAST, both).when(told(2)).then(rekeyed(NEW, OLD))
    added = (*PAST, both, rekeyed(NEW, OLD))
    given(*added).when(told(2)).nothing()
    given(*added).when(rekey(NEW)).then(wanted(NEW, dropped=(OLD,), generation=3))
    undone = wanted(OLD, dropped=(NEW,), generation=3)
    given(*PAST, both).when(rekey(OLD)).then(undone)
    third = wanted("file:third", OLD, dropped=(NEW,), generation=4)
    given(*PAST, both, undone).when(rekey("file:third", OLD)).then(third)
    given(*PAST, both, undone).when(told(2)).nothing()
    last = (*PAST, both, undone, rekeyed(OLD, generation=3))
    given(*last).when(rekey(OLD)).then(wanted(OLD, generation=4))
    elsewhere = replace(wanted(OLD, generation=4), elsewhere=True)
    given(*last).when(replace(rekey(OLD), elsewhere=True)).then(elsewhere)


def test_only_a_leg_that_is_there_and_encrypted_gets_other_keys() -> None:
    given(*PLAIN).when(rekey(NEW, OLD)).refused(Refusal.NOT_ENCRYPTED)
    given(*PLAIN).when(told(1)).nothing()
    (going,) = decided((*PAST,), RemoveReplica(**LEG, operation=OPERATION))
    given(*PAST, going).when(rekey(NEW, OLD)).refused(Refusal.REPLICA_BUSY, "going")
    past: list[Event] = list(PAST)
    for number in range(29):
        key = f"file:k{number}"
        (event,) = decided((*past,), rekey(key))
        past.append(event)
    given(*past).when(rekey("file:too-many")).refused(Refusal.NO_KEY_SLOT)


@dataclass
class Header:
    """Slots as a node has them: it does all, some or nothing of what is wanted before it dies."""

    slots: set[str]

    def work(self, wish: Encryption, steps: int) -> bool:
        for key in wish.keys:
            if key not in self.slots:
                if steps == 0:
                    return False
                self.slots.add(key)
                steps -= 1
        for key in wish.dropped:
            if key in self.slots:
                if steps == 0:
                    return False
                self.slots.discard(key)
                steps -= 1
        return True


KEYS = st.lists(st.sampled_from(("a", "b", "c", "d")), min_size=1, max_size=2, unique=True)


def take(leg: replica.Replica, command: ReplicaCommand) -> replica.Replica:
    facts: Any = None  # a leg looks at nothing but itself when it is rekeyed
    events = replica.decide(leg, command, facts)
    assert isinstance(events, tuple)
    for event in events:
        leg = replica.evolve(leg, event)
    return leg


def keys_of(leg: replica.Replica) -> Encryption:
    assert leg.spec is not None
    assert leg.spec.encryption is not None
    return leg.spec.encryption


@law(days=st.lists(st.tuples(KEYS, st.integers(0, 4), st.booleans()), max_size=12))
def test_in_every_order_a_key_that_the_log_knows_opens_it(
    days: list[tuple[list[str], int, bool]],
) -> None:
    spec = ReplicaSpec(uid=UID, pool="fast", size_bytes=GIB, encryption=Encryption(keys=("a",)))
    wanted = ReplicaWanted(**LEG, operation=OPERATION, spec=spec)
    made = ReplicaCreated(**LEG, uid=UID, pool="fast", size_bytes=GIB, device="/dev/fast/pg")
    leg, header = replica.evolve(replica.evolve(replica.Replica(), wanted), made), Header({"a"})
    for keys, steps, reported in days:
        leg = take(leg, rekey(*keys))
        done = header.work(keys_of(leg), steps)
        if done and reported:
            leg = take(leg, told(keys_of(leg).generation))
            assert header.slots == set(keys) == set(keys_of(leg).known)
        assert header.slots
        assert header.slots <= set(keys_of(leg).known)
