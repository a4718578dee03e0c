"""Names are the same wherever they stand, and no word that hwbus needs is taken for one."""

from typing import Any

import msgspec
import pytest

from hwbus.replaying.names import Names, Pseudonyms
from hwbus.replaying.redaction import Redactor, names_in
from hwbus.replaying.tape import Beginning, KeptRow
from projectors.tables import ACCOUNT_DAYS, ACCOUNTS, HOLDINGS, USAGE, HoldingRow
from schemas.account_view import AccountLevel, AccountRow
from schemas.audit import RefusedRecord
from schemas.refusals import Refusal
from schemas.trail import AUDIT_TRAIL, PruneTrail, TrailReleased
from schemas.usage_view import UsageLevel, UsageRow
from tests.support.clock import NOON

SALT = b"a salt that nobody knows, 32 long"


def pseudonyms(*values: Any, objects: bool = False) -> Pseudonyms:
    names = Names(objects=objects)
    for value in values:
        names.walk(value)
    return Pseudonyms(names, SALT)


def account(level: AccountLevel, name: str, day: str = "") -> AccountRow:
    return AccountRow(level=level, name=name, day=day, since=NOON, at=NOON, seq=1)


def released(place: str) -> TrailReleased:
    about: dict[str, Any] = {"until": 7, "root": "0" * 64, "frontier": ("0" * 64,)}
    return TrailReleased(trail=AUDIT_TRAIL, place=place, newest=NOON, **about)


def test_a_namespace_is_one_name_in_consumers_holdings_accounts_and_their_keys() -> None:
    day = "2026-11-27"
    rows: list[KeptRow] = [
        (HOLDINGS, "pg", HoldingRow(uid="0" * 26, namespace="acme-payroll")),
        (ACCOUNTS, "namespace/acme-payroll", account(AccountLevel.NAMESPACE, "acme-payroll")),
        (ACCOUNT_DAYS, f"namespace/old/{day}", account(AccountLevel.NAMESPACE, "old", day)),
    ]
    names = names_in(Beginning([], rows), [], [])
    names.walk({"consumer": "pod/acme-payroll/web-0"})
    other = Pseudonyms(names, SALT)
    told = Redactor(other).beginning(Beginning([], rows)).rows
    new, old = other.table["acme-payroll"], other.table["old"]
    assert "acme" not in new
    holding, (_, key, row), (_, key_of_day, _) = told
    assert isinstance(holding[2], HoldingRow)
    assert isinstance(row, AccountRow)
    assert (holding[2].namespace, row.name, key) == (new, new, f"namespace/{new}")
    assert key_of_day == f"namespace/{old}/{day}"
    assert other.text("pod/acme-payroll/web-0") == f"pod/{new}/{other.table['web-0']}"


@pytest.mark.parametrize(
    ("row", "key", "kind", "hidden"),
    [
        (account(AccountLevel.NODE, "n7"), "node/n7", "node", False),
        (account(AccountLevel.POOL, "n7/fast"), "pool/n7/fast", "pool", True),
        (account(AccountLevel.VOLUME, "gone"), "volume/gone", "volume", True),
        (account(AccountLevel.TARGET, "s3"), "target/s3", "target", True),
        (UsageRow(level=UsageLevel.SNAPSHOT, name="eve", seq=1), "snapshot/eve", "snapshot", True),
    ],
)
def test_whoever_has_an_account_is_known_by_it_alone(
    row: AccountRow | UsageRow, key: str, kind: str, hidden: bool
) -> None:
    table = ACCOUNTS if isinstance(row, AccountRow) else USAGE
    name = row.name.rpartition("/")[2]
    beginning = Beginning([], [(table, key, row)])
    for objects in (False, True):
        names = names_in(beginning, [], [], objects=objects)
        assert (name in names.known[kind]) is (objects or not hidden)
        assert ("n7" in names.known["node"]) is ("n7" in key)
        assert Pseudonyms(names, SALT).text(key).partition("/")[0] == key.partition("/")[0]


@pytest.mark.parametrize(
    ("place", "gone", "stays"),
    [
        ("s3://acme-audit/berlin", {"acme-audit", "berlin"}, "s3://{}/{}"),
        ("s3://acme/", {"acme"}, "s3://{}/"),
        ("/home/ada/the_log/", {"ada", "the_log"}, "/home/{}/{}/"),
        ("/srv/2026/.acme/", {"acme"}, "/srv/2026/.{}/"),
        ("s3://audit/berlin", {"berlin"}, "s3://audit/{}"),
    ],
)
@pytest.mark.parametrize("asked", [False, True])
def test_where_the_audit_is_archived_tells_neither_bucket_nor_prefix_nor_home(
    place: str, gone: set[str], stays: str, asked: bool
) -> None:
    event = released(place)
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    word = PruneTrail(**fields) if asked else event
    other = pseudonyms(word)
    assert set(other.table) == gone
    ordered = sorted(gone, key=place.index)
    told = Redactor(other).of(word)
    assert told.place == stays.format(*(other.table[name] for name in ordered))
    assert told.trail == AUDIT_TRAIL
    assert other.text(f"it lies in {place}, they say").startswith(f"it lies in {told.place}")


@pytest.mark.parametrize("word", ["backup", "volume", "now", "audit", "hwbus", "11", "volumes"])
def test_a_word_that_keys_and_texts_are_made_of_is_no_name_of_somebody(word: str) -> None:
    """Else the views would make other rows elsewhere, and no bundle could be written."""
    row = HoldingRow(uid="0" * 26, namespace=word)
    url = {"url": f"s3://acme/{word}", "consumer": f"pod/{word}/web", "cluster": word}
    other = pseudonyms(row, url)
    assert set(other.table) == {"acme", "web"}
    for key in ("backup-create/completed", "volume/pg", "namespace/2026-11-27", "hwbus"):
        assert other.text(key) == key


def test_a_request_is_read_so_that_a_name_on_a_line_of_its_own_is_found() -> None:
    asked = '{"node":"n1","because":"told by\\nada:\\tno","labels":{"team":"ada"}}'
    refused = RefusedRecord(
        at=NOON,
        actor="ada",
        command="c1",
        word="node.cordon.v1",
        object="node/n1",
        code=Refusal.UNKNOWN_NODE,
        because="there is no node n1",
        request=asked,
    )
    other = pseudonyms(refused)
    told = Redactor(other).of(refused)
    assert set(other.table) == {"n1", "ada"}
    ada = other.table["ada"]
    assert msgspec.json.decode(told.request) == {
        "node": other.table["n1"],
        "because": f"told by\n{ada}:\tno",
        "labels": {"team": ada},
    }
    assert told.object == f"node/{other.table['n1']}"


@pytest.mark.parametrize(
    "text", ["", "[" * 4096, "[" * 2000 + "]" * 2000, '{"a":' * 500 + "1" + "}" * 500, '{"node":"n']
)
def test_a_request_that_is_no_command_is_a_text_as_any_other(text: str) -> None:
    value = msgspec.json.decode(
        msgspec.json.encode({"type": "refused"} | REFUSED | {"request": text}), type=RefusedRecord
    )
    other = pseudonyms(value)
    assert Redactor(other).of(value).request == text


REFUSED: dict[str, Any] = {
    "at": NOON,
    "actor": "hwbus",
    "command": "c1",
    "word": "w",
    "object": "volume/pg",
    "code": Refusal.MALFORMED,
    "because": "no JSON",
}
