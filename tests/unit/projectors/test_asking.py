"""A question is understood, or refused with what could be asked instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projectors.asking import UnaskableError, cursor, plan, read_cursor
from projectors.tables import TABLES
from schemas.queries import COLUMNS, ROWS, Query, Value

NO_COLUMNS = {"since", "until", "text", "selector"}


@given(st.text(st.characters(codec="utf-8")))
def test_a_cursor_leads_back_to_its_key(key: str) -> None:
    assert read_cursor(cursor(key)) == key


@pytest.mark.parametrize("text", ["!", "abc", "ÿ", "_-_-_-_9"])
def test_a_cursor_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(UnaskableError, match="no cursor"):
        read_cursor(text)


def test_every_column_that_may_be_asked_for_is_in_the_database() -> None:
    kept = {table.name: table for table in TABLES}
    for view, columns in COLUMNS.items():
        assert view in ROWS
        if view in {"status", "views"}:
            continue
        planned = plan(view, Query(where={columns[0]: "x"}))
        assert set(columns) - NO_COLUMNS <= set(kept[planned.table].columns)


@pytest.mark.parametrize(
    ("view", "where", "because"),
    [
        ("nodes", {"colour": "red"}, "cannot be asked by 'colour'"),
        ("nodes", {"name; DROP TABLE nodes": "x"}, "cannot be asked by"),
        ("audit", {"since": "yesterday"}, "no moment"),
        ("audit", {"until": "2026-01-01T00:00:00"}, "no moment"),
        ("audit", {"since": True}, "no moment"),
        ("operation", {}, "say which"),
        ("volume", {}, "say which"),
        ("moods", {}, "no view"),
    ],
)
def test_what_cannot_be_asked_is_told_with_what_can(
    view: str, where: dict[str, Value], because: str
) -> None:
    with pytest.raises(UnaskableError, match=because) as refused:
        plan(view, Query(where=where))
    assert refused.value.fix


def test_values_never_become_part_of_the_statement() -> None:
    evil = "x' OR '1'='1"
    sql, values = plan("volumes", Query(where={"name": evil}, cursor=cursor(evil))).sql()
    assert evil not in sql
    assert values == [evil, evil]
