"""The resource file of a replicated volume, for the DRBD of Linux itself and for DRBD 9."""

import base64

import msgspec
import pytest

from node_workers import drbd_config
from node_workers.drbd_config import Note, Place, Version
from node_workers.ports import UnsuitableError
from node_workers.replication import Member, ReplicationSpec
from node_workers.sealed import new_keys

OLD, NEW = Version(8, 4), Version(9, 2)
KEYS = {node: new_keys() for node in ("n1", "n2", "n3")}
HANDLER = ("/opt/it's/python", "fence_peer.py", "/run/hwbus/fence.sock")


def member(node: str, index: int, address: str = "", since: str = "tie-1") -> Member:
    return Member(
        node=node,
        index=index,
        address=address or f"198.51.100.{11 + index}",
        port=7790 + index,
        minor=100 + index,
        key=base64.b64encode(KEYS[node].public).decode(),
        since=since,
    )


A, B, C = member("n1", 0), member("n2", 1), member("n3", 2)


def note(*members: Member, rate: int = 0) -> Note:
    spec = ReplicationSpec(
        volume="v1",
        uid="uid-v1",
        pool="fast",
        size_bytes=64 << 20,
        members=members or (A, B),
        resync_bytes_per_s=rate,
    )
    return Note(spec=spec, places=(Place(leg_bytes=68 << 20, size_bytes=64 << 20),))


def text(of: Note, version: Version = OLD, node: str = "n1", host: str = "host1") -> str:
    return drbd_config.file(
        of, version, node=node, host=host, secret=KEYS[node].secret, handler=HANDLER
    ).text


def test_the_file_begins_with_what_it_was_made_from() -> None:
    first, rest = text(note()).split("\n", 1)
    found = msgspec.json.decode(first.removeprefix(drbd_config.NOTE), type=Note)
    assert msgspec.structs.replace(found, digest="") == note()
    secret = drbd_config.shared_secret(KEYS["n1"].secret, "uid-v1", A, B)
    assert secret in rest
    assert secret not in first


def test_the_digest_changes_with_anything_in_the_file() -> None:
    def digest(host: str) -> str:
        args = {"node": "n1", "secret": KEYS["n1"].secret, "handler": HANDLER}
        return drbd_config.file(note(), OLD, host=host, **args).note.digest  # type: ignore[arg-type]

    assert digest("host1") == digest("host1") != digest("host2")


def test_the_old_drbd_gets_hosts_with_devices_and_fencing_among_the_disk_options() -> None:
    written = text(note())
    assert 'on "host1" { device minor 100; disk "/dev/mapper/hwbus:v1.leg";' in written
    assert "address ipv4 198.51.100.12:7791; }" in written
    assert "disk { size 131072s; on-io-error detach; fencing resource-and-stonith;" in written
    assert "node-id" not in written


def test_the_new_drbd_gets_node_ids_connections_and_fencing_among_the_net_options() -> None:
    written = text(note(A, B, C), NEW)
    assert "node-id 2; volume 0 { device minor 102;" in written
    assert written.count("connection {") == 2
    assert "fencing resource-and-stonith; }" in written
    assert "auto-promote no" in written
    for peer in (B, C):
        secret = drbd_config.shared_secret(KEYS["n1"].secret, "uid-v1", A, peer)
        assert f'host "{peer.node}" address ipv4 {peer.address}:{peer.port};' in written
        assert f'shared-secret "{secret}"' in written


def test_two_nodes_come_to_the_same_secret_and_nobody_else_does() -> None:
    def secret(here: Member, peer: Member, uid: str = "uid-v1") -> str:
        return drbd_config.shared_secret(KEYS[here.node].secret, uid, here, peer)

    assert secret(A, B) == secret(B, A)
    assert len({secret(A, B), secret(A, C), secret(B, C), secret(A, B, "other")}) == 4
    assert len(secret(A, B)) < 64


@pytest.mark.parametrize("key", ["", "nonsense!", "AAAA", base64.b64encode(bytes(32)).decode()])
def test_what_is_no_key_is_refused(key: str) -> None:
    peer = msgspec.structs.replace(B, key=key)
    with pytest.raises(UnsuitableError) as caught:
        drbd_config.shared_secret(KEYS["n1"].secret, "uid-v1", A, peer)
    assert caught.value.reason == "cannot-replicate"


def test_the_old_drbd_ties_no_more_than_two() -> None:
    with pytest.raises(UnsuitableError, match=r"DRBD 8\.4 ties two nodes, not 3"):
        text(note(A, B, C))
    with pytest.raises(UnsuitableError, match="n3 is no member"):
        text(note(A, B), node="n3")


def test_a_bounded_resync_is_bounded_and_another_finds_its_rate() -> None:
    assert "c-plan-ahead 0; resync-rate 1024k; c-min-rate 1024k; }" in text(note(rate=1 << 20))
    assert "c-plan-ahead 0; resync-rate 1k; c-min-rate 1k; }" in text(note(rate=1))
    assert "c-plan-ahead 0; resync-rate 8388608k; c-min-rate 4194304k; }" in text(
        note(rate=1 << 50)
    )
    assert "c-plan-ahead" not in text(note())


def test_addresses_of_both_families_are_told_apart() -> None:
    assert "address ipv6 [fd00::2]:7791; }" in text(note(A, member("n2", 1, "fd00::2")))


def test_the_handler_is_one_line_for_a_shell() -> None:
    assert r"""fence-peer "'/opt/it'\"'\"'s/python' fence_peer.py""" in text(note())
    assert "fence_peer.py /run/hwbus/fence.sock v1 uid-v1" in text(note())


def test_the_first_generation_is_one_that_drbd_takes_for_a_secondary_of_some_age() -> None:
    first = drbd_config.first_generation(note().spec)
    assert first == drbd_config.first_generation(note(B, A).spec)
    other = msgspec.structs.replace(note().spec, uid="uid-v2")
    assert first != drbd_config.first_generation(other)
    assert int(first, 16) > 1 << 62
    assert int(first, 16) % 2 == 0


def test_nothing_of_one_tie_passes_for_what_is_of_another() -> None:
    again = (member("n1", 0, since="tie-2"), member("n2", 1, since="tie-2"))
    secret, uid = KEYS["n1"].secret, "uid-v1"
    assert drbd_config.identity(uid, A) != drbd_config.identity(uid, again[0])
    first = drbd_config.first_generation(note().spec)
    assert first != drbd_config.first_generation(note(*again).spec)
    theirs = drbd_config.shared_secret(KEYS["n2"].secret, uid, again[1], again[0])
    assert drbd_config.shared_secret(secret, uid, *again) == theirs
    assert drbd_config.shared_secret(secret, uid, A, B) != theirs
    assert drbd_config.shared_secret(secret, uid, again[0], B) != theirs


def test_a_dump_says_that_nothing_differs_and_whose_it_is() -> None:
    dump = drbd_config.dump(note().spec, A, alone=False)
    assert "flags 0x00000011; }" in dump
    assert "la-size-sect 131072;" in dump
    assert f"device-uuid 0x{drbd_config.identity('uid-v1', A)};" in dump
    assert "bm { 256 times 0x0000000000000000; }" in " ".join(dump.split())
    assert "flags 0x00000031; }" in drbd_config.dump(note().spec, A, alone=True)
