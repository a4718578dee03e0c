"""Who a disk is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node_workers.identity import disk_identity, known_serial

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
HERE = {"node": "n1", "path": "/dev/sdb"}


def test_our_own_stamp_wins_over_everything() -> None:
    found = disk_identity(stamp="wwn-5000", wwn="naa.6000", serial="S1", model="M", **HERE)
    assert found == "wwn-5000"


def test_a_stamp_that_is_no_label_is_no_evidence() -> None:
    assert disk_identity(stamp="Not ours!", wwn="naa.6000", **HERE) == "wwn-6000"


def test_a_world_wide_name_is_the_same_however_it_is_spelt() -> None:
    spellings = ("0x5000C500A1B2C3D4", "naa.5000c500a1b2c3d4", "wwn-0x5000c500a1b2c3d4")
    assert {disk_identity(wwn=one, **HERE) for one in spellings} == {"wwn-5000c500a1b2c3d4"}


def test_a_world_wide_name_of_zeros_names_nobody() -> None:
    assert disk_identity(wwn="0x0000000000000000", **HERE).startswith("loc-")


def test_a_disk_with_a_world_wide_name_keeps_its_identity_when_it_moves() -> None:
    there = {"node": "n2", "path": "/dev/sdz"}
    assert disk_identity(wwn="eui.0025", **HERE) == disk_identity(wwn="eui.0025", **there)


def test_equal_serials_on_two_nodes_are_two_disks() -> None:
    one = disk_identity(serial="SAME", model="M", node="n1", path="/dev/sdb")
    other = disk_identity(serial="SAME", model="M", node="n2", path="/dev/sdb")
    assert one != other
    assert one.startswith("ser-")


@pytest.mark.parametrize("words", ["(null)", "None", "0000000000", " ", "N/A"])
def test_words_for_no_serial_are_no_evidence(words: str) -> None:
    nameless = disk_identity(node="n1", path="/dev/sdb")
    assert disk_identity(serial=words, node="n1", path="/dev/sdb") == nameless
    assert known_serial(words) == ""


def test_long_names_that_differ_only_at_the_end_stay_apart() -> None:
    start = "t10.ATA     Maker of Disks with a very long name                        SERIAL"
    assert disk_identity(wwn=f"{start}1", **HERE) != disk_identity(wwn=f"{start}2", **HERE)


@given(st.text(), st.text(), st.text(), st.text(), st.text(), st.text())
def test_an_identity_is_always_a_label_and_always_the_same(
    stamp: str, wwn: str, serial: str, model: str, node: str, path: str
) -> None:
    def identity() -> str:
        return disk_identity(stamp=stamp, wwn=wwn, serial=serial, model=model, node=node, path=path)

    assert LABEL.fullmatch(identity())
    assert identity() == identity()
