"""What DRBD prints, recorded, as states: 8.4.11 in the lab, and 9 as its users have recorded it."""

from msgspec.structs import replace

from node_workers.drbd_status import Resource, parse_events, parse_json
from node_workers.replication import Connection, DiskState, Peer, Role, Sync

# drbdsetup 9.22 with DRBD 8.4.11: a primary whose peer was cut off.
FROZEN = """\
exists resource name:hwbus-v1 role:Primary suspended:fencing write-ordering:flush
exists connection name:hwbus-v1 peer-node-id:0 conn-name:peer connection:Connecting role:Unknown congested:no
exists device name:hwbus-v1 volume:0 minor:100 disk:UpToDate size:65536 read:8192 written:23368 al-writes:4 bm-writes:0 upper-pending:1 lower-pending:0 al-suspended:no blocked:upper
exists peer-device name:hwbus-v1 peer-node-id:0 conn-name:peer volume:0 replication:Off peer-disk:DUnknown resync-suspended:no received:0 sent:21768 out-of-sync:0 pending:1 unacked:0
exists -
"""  # noqa: E501
# The same, before it has a connection: it has no name then.
ALONE = """\
exists resource name:hwbus-v1 role:Secondary suspended:no write-ordering:flush
exists connection name:hwbus-v1 peer-node-id:0 connection:StandAlone role:Unknown congested:no
exists device name:hwbus-v1 volume:0 minor:100 disk:UpToDate size:65536 read:0 written:0 al-writes:0 bm-writes:0 upper-pending:0 lower-pending:0 al-suspended:no blocked:no
exists peer-device name:hwbus-v1 peer-node-id:0 volume:0 replication:Off peer-disk:Outdated resync-suspended:no received:0 sent:0 out-of-sync:0 pending:0 unacked:0
exists -
"""  # noqa: E501
# DRBD 9, events2 --now --statistics, with objects and keys that 8.4 has not (drbdsetup(8) of 9.0).
THREE = """\
exists resource name:hwbus-v1 role:Secondary suspended:no force-io-failures:no write-ordering:flush may_promote:no promotion_score:10101
exists connection name:hwbus-v1 peer-node-id:1 conn-name:n2 connection:Connected role:Primary congested:no tls:no ap-in-flight:0 rs-in-flight:0
exists connection name:hwbus-v1 peer-node-id:2 conn-name:n3 connection:StandAlone role:Unknown congested:no
exists device name:hwbus-v1 volume:0 minor:7 backing_dev:/dev/mapper/hwbus:v1.leg disk:Inconsistent client:no quorum:yes size:65536 read:0 written:0
exists peer-device name:hwbus-v1 peer-node-id:1 conn-name:n2 volume:0 replication:SyncTarget peer-disk:UpToDate peer-client:no resync-suspended:no done:43.75 out-of-sync:36864
exists peer-device name:hwbus-v1 peer-node-id:2 conn-name:n3 volume:0 replication:Off peer-disk:DUnknown peer-client:no resync-suspended:no
exists path name:hwbus-v1 peer-node-id:1 conn-name:n2 local:ipv4:10.0.0.1:7000 peer:ipv4:10.0.0.2:7000 established:yes
exists -
"""  # noqa: E501
# DRBD 9, status --json --statistics, as its users' tests have it, with our names.
JSON = """[
{ "name": "another", "role": "Primary", "devices": [], "connections": [] },
{ "name": "hwbus-v1", "node-id": 1, "role": "Primary", "suspended": true, "suspended-user": false,
  "suspended-no-data": false, "suspended-fencing": true, "suspended-quorum": false,
  "force-io-failures": false, "write-ordering": "flush",
  "devices": [ { "volume": 0, "minor": 5, "disk-state": "UpToDate", "client": false,
      "quorum": true, "size": 65536, "read": 0, "written": 0, "upper-pending": 0 } ],
  "connections": [
    { "peer-node-id": 2, "name": "n2", "connection-state": "Connected", "congested": false,
      "peer-role": "Secondary", "ap-in-flight": 0, "rs-in-flight": 0,
      "peer_devices": [ { "volume": 0, "replication-state": "SyncSource",
          "peer-disk-state": "Inconsistent", "peer-client": false, "resync-suspended": "no",
          "out-of-sync": 4, "has-sync-details": true, "percent-in-sync": 99.9, "done": 43.13 } ] },
    { "peer-node-id": 3, "name": "n3", "connection-state": "Connecting", "peer-role": "Unknown" }
  ] } ]
"""


def only(found: dict[str, Resource]) -> Resource:
    (one,) = found.values()
    return one


def test_a_frozen_primary_that_misses_its_peer() -> None:
    found = only(parse_events(FROZEN))
    assert (found.role, found.disk, found.minor) == (Role.PRIMARY, DiskState.UP_TO_DATE, 100)
    assert found.frozen
    assert not found.connected
    state = found.state("v1", ("n2",), split=False)
    assert state.peers == (Peer(node="n2", connection=Connection.CONNECTING),)
    assert (state.device, state.size_bytes) == ("/dev/drbd100", 64 << 20)


def test_the_one_peer_of_the_old_drbd_has_no_name_and_is_known_all_the_same() -> None:
    state = only(parse_events(ALONE)).state("v1", ("n2",), split=True)
    assert state.peers == (Peer(node="n2", disk=DiskState.OUTDATED),)
    assert state.split


def test_a_leg_among_three_that_is_copied_to() -> None:
    state = only(parse_events(THREE)).state("v1", ("n2", "n3"), split=False)
    assert (state.role, state.disk) == (Role.SECONDARY, DiskState.INCONSISTENT)
    assert state.peers == (
        Peer(
            node="n2",
            connection=Connection.CONNECTED,
            role=Role.PRIMARY,
            disk=DiskState.UP_TO_DATE,
            sync=Sync.TARGET,
            done_percent=43.75,
            out_of_sync_bytes=36 << 20,
        ),
        Peer(node="n3"),
    )


def test_what_the_new_drbd_says_in_json() -> None:
    found = only(parse_json(JSON))
    assert found.frozen
    assert found.state("v1", ("n3", "n2"), split=False).peers == (
        Peer(node="n3", connection=Connection.CONNECTING),
        Peer(
            node="n2",
            connection=Connection.CONNECTED,
            role=Role.SECONDARY,
            disk=DiskState.INCONSISTENT,
            sync=Sync.SOURCE,
            done_percent=43.13,
            out_of_sync_bytes=4096,
        ),
    )


def test_legs_that_still_tell_each_other_what_they_hold_have_not_met() -> None:
    meeting = FROZEN.replace("connection:Connecting", "connection:Connected")
    assert not only(parse_events(meeting)).connected
    assert only(parse_events(meeting.replace("replication:Off", "replication:WFBitMapT"))).connected
    of_nine = JSON.replace('"SyncSource"', '"Off"').replace('"Connecting"', '"Connected"')
    assert [peer.connection for peer in only(parse_json(of_nine)).peers] == [
        Connection.CONNECTING,
        Connection.CONNECTED,
    ]


def test_an_older_one_does_not_say_why_it_stands_still() -> None:
    old = '[{"name": "hwbus-v1", "role": "Primary", "suspended": true}]'
    assert only(parse_json(old)).frozen
    assert not only(parse_json(old.replace("true", "false"))).frozen
    assert parse_json("") == {}


def test_what_a_person_suspended_is_not_for_the_log_to_decide() -> None:
    assert not only(parse_events(FROZEN.replace("suspended:fencing", "suspended:user"))).frozen
    assert only(parse_events(FROZEN.replace("suspended:fencing", "suspended:user,no-data"))).frozen


def test_other_peoples_resources_and_words_not_known_are_passed_over() -> None:
    theirs = FROZEN.replace("hwbus-v1", "their-r0")
    later = FROZEN.replace("disk:UpToDate", "disk:Shiny").replace("role:Primary", "role:Deputy")
    assert parse_events(theirs + "exists gadget name:hwbus-v1 a:b\n") == {
        "hwbus-v1": Resource(name="hwbus-v1")
    }
    found = only(parse_events(later))
    assert (found.disk, found.role) == (DiskState.UNKNOWN, Role.UNKNOWN)
    assert replace(found, peers=()).connected
