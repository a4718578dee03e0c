from hwbus.record import Records
from hwbus.subjects import Address

A, B, C = (Address("volume", "-", name) for name in "abc")


def test_what_is_not_over_is_never_forgotten() -> None:
    records = Records(over_max=1)
    for address in (A, B, C):
        records.of(address).seq = 7
        assert records.mark(address, over=False) is None
    assert len(records) == 3


def test_of_what_is_over_the_latest_are_kept() -> None:
    records = Records(over_max=2)
    for address in (A, B, C):
        records.of(address).seq = 7
    assert [records.mark(address, over=True) for address in (A, B, C)] == [None, None, A]
    assert (records.get(A).seq, records.get(B).seq) == (0, 7)


def test_what_comes_back_counts_as_new() -> None:
    records = Records(over_max=2)
    for address in (A, B, C):
        records.of(address).seq = 7
    records.mark(A, over=True)
    records.mark(B, over=True)
    records.mark(A, over=False)
    assert records.mark(C, over=True) is None
    records.mark(A, over=True)
    assert len(records) == 2
