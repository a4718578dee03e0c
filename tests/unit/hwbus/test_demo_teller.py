"""A story that is told: what is so is counted, what is not is named."""

import io

import pytest

from hwbus.demo.teller import NotSoError, Teller


def teller(*, colours: bool = False, width: int = 80) -> tuple[Teller, io.StringIO]:
    out = io.StringIO()
    return Teller(out, colours=colours, width=width), out


def test_what_is_so_is_said_and_counted() -> None:
    told, out = teller()
    told.check(so=True, sentence="the sky is blue")
    told.same(2 + 2, 4, "two and two are four")
    assert told.checked == 2
    assert out.getvalue() == "   ok the sky is blue\n   ok two and two are four\n"


def test_what_is_not_so_is_named_with_both_sides_and_not_counted() -> None:
    told, out = teller()
    with pytest.raises(NotSoError, match=r"two and two are five \(4 is not 5\)"):
        told.same(2 + 2, 5, "two and two are five")
    assert told.checked == 0
    assert "ok" not in out.getvalue()


def test_commands_are_shown_as_one_would_type_them() -> None:
    told, out = teller()
    told.command(("hwbus", "volume", "ls", "--text", "a b"))
    told.command(("vgs",), node="n1")
    told.command(("hwbus", "volume", "create"), beside=True)
    lines = ["$ hwbus volume ls --text 'a b'", "n1# vgs", "$ hwbus volume create &"]
    assert out.getvalue().splitlines() == [f"   {line}" for line in lines]


def test_chapters_are_numbered_and_say_where_we_are() -> None:
    told, out = teller()
    assert told.place == "set-up"
    told.chapter("One")
    told.chapter("Two")
    assert told.place == "chapter 2"
    assert "1. One\n" in out.getvalue()
    assert "2. Two  [  0.0 s]\n" in out.getvalue()


def test_long_output_is_cut_and_empty_lines_are_left_out() -> None:
    told, out = teller(width=20)
    told.output(f"{'x' * 40}\n\nshort\n")
    first, second = out.getvalue().splitlines()
    assert (len(first), first[-1]) == (20, "…")
    assert second == "     short"


def test_without_colours_there_is_no_escape() -> None:
    plain, coloured = teller(), teller(colours=True)
    for told, _ in (plain, coloured):
        told.chapter("One")
        told.check(so=True, sentence="so")
        told.fail("not so")
        told.end("the end")
    assert "\033" not in plain[1].getvalue()
    assert "\033[1m1. One\033[0m" in coloured[1].getvalue()
