"""A lab is described as data, and a bad description is refused with a sentence."""

from pathlib import Path

import msgspec
import pytest

from hwbus.lab.spec import LabSpec, ServiceSpec, fill, read_services, uniform
from hwbus.lab.uml.cluster import check_layout
from hwbus.lab.uml.disks import LETTERS, DiskSpec, choose_letter, create, parse_size
from hwbus.lab.uml.errors import LabError


def test_a_placeholder_is_replaced_and_other_braces_stay() -> None:
    argv = ("run", "{node}", '{"url": "{nats_url}"}', "{}", "${HOME}")
    values = {"node": "n1", "nats_url": "nats://there"}
    assert fill(argv, values) == ("run", "n1", '{"url": "nats://there"}', "{}", "${HOME}")


def test_an_unknown_placeholder_is_refused_by_name() -> None:
    with pytest.raises(LabError, match=r"\{nod\} is no placeholder here; there are \{node\}"):
        fill(("{nod}",), {"node": "n1"})


def test_a_lab_survives_being_written_down() -> None:
    service = ServiceSpec(name="worker", argv=("{python}", "-m", "node_workers"), in_nodes=True)
    spec = uniform(2, 1, "5G", services=[service], nats_port=4333)
    assert msgspec.json.decode(msgspec.json.encode(spec), type=LabSpec) == spec
    assert [node.name for node in spec.nodes] == ["n1", "n2"]
    assert spec.nodes[0].disks == (DiskSpec(size="5G"),)


def test_a_file_that_is_no_list_of_services_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "services.json"
    file.write_text('[{"name": "worker"}]')
    with pytest.raises(LabError, match=r"services\.json is no list of services"):
        read_services(file)
    file.write_text('[{"name": "worker", "argv": ["true"]}]')
    assert read_services(file) == (ServiceSpec(name="worker", argv=("true",)),)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("4096", 4096), ("20G", 20 << 30), ("500MiB", 500 << 20), ("1tb", 1 << 40), ("8KB", 8192)],
)
def test_sizes_are_binary(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "0", "-1G", "1.5G", "G", "20 G", "20X", "20Gx"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize("disks", [-1, len(LETTERS) + 1])
def test_a_node_has_no_more_disks_than_letters(disks: int) -> None:
    with pytest.raises(LabError, match="a node has 0 to 15 disks"):
        uniform(1, disks)


def test_a_disk_gets_the_first_free_letter_or_the_one_asked_for() -> None:
    assert choose_letter(None, "bd") == "c"
    assert choose_letter("p", "bd") == "p"
    for refused in ("a", "b", "q", ""):
        with pytest.raises(LabError, match="is taken, or not one of"):
            choose_letter(refused, "bd")
    with pytest.raises(LabError, match="all the 15 disks"):
        choose_letter(None, LETTERS)


def test_a_disk_is_large_and_takes_no_room(tmp_path: Path) -> None:
    disk = create(tmp_path / "disk.img", "b", "20G", "S-1")
    assert disk.size_bytes == disk.image.stat().st_size == 20 << 30
    assert disk.image.stat().st_blocks == 0
    assert disk.word == f"ubdb={tmp_path}/disk.img,,S-1"


@pytest.mark.parametrize("serial", ["", "a,b", "a b", "x" * 21, "ü"])
def test_a_serial_number_must_fit_the_kernels_command_line(tmp_path: Path, serial: str) -> None:
    with pytest.raises(LabError, match="is no serial number"):
        create(tmp_path / "disk.img", "b", "1M", serial)


@pytest.mark.parametrize(
    ("directory", "name", "sentence"),
    [
        ("/tmp/with space", "n1", "choose a plain path"),
        ("/tmp/a,b", "n1", "choose a plain path"),
        ("/dev/shm/lab", "n1", "outside /dev"),
        ("/run/lab", "n1", "outside /dev"),
        ("/tmp/" + "x" * 100, "n1", "too long for a unix socket"),
        ("/tmp/lab", "N1", "is no node name"),
        ("/tmp/lab", "-", "is no node name"),
        ("/tmp/lab", "n.1", "is no node name"),
    ],
)
def test_a_lab_that_cannot_live_where_it_shall_is_refused(
    directory: str, name: str, sentence: str
) -> None:
    with pytest.raises(LabError, match=sentence):
        check_layout(Path(directory), {name: ()})


def test_a_lab_has_at_least_one_node() -> None:
    with pytest.raises(LabError, match="a lab has 1 to 200 nodes, not 0"):
        check_layout(Path("/tmp/lab"), {})
