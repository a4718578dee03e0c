import pytest

from schemas.units import readable


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB (1024 bytes)"),
        (3 << 29, "1.5 GiB (1610612736 bytes)"),
        (1 << 60, "1 EiB (1152921504606846976 bytes)"),
    ],
)
def test_a_size_is_readable_and_exact(size_bytes: int, text: str) -> None:
    assert readable(size_bytes) == text
