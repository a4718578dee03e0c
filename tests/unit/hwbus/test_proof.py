"""The checker that asks nobody: whatever is in a file, it is read, or said to be no proof."""

from pathlib import Path
from typing import Any

import pytest

from hwbus.proof import FORMAT, ProofError, check, check_kept, main

HEAD = {"seq": 1, "root": "00" * 32, "key": "00" * 32, "signature": "00" * 64, "at": "now"}
PROOF: dict[str, Any] = {
    "format": FORMAT,
    "message": {"seq": 1, "subject": "hwbus.evt.node.-.n1", "data": ""},
    "head": {"stream": "HWBUS_EVENTS"} | HEAD,
    "inclusion": [],
}
DEEP = 100_000


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {"message": PROOF["message"] | {"seq": float("inf")}},
        {"message": PROOF["message"] | {"seq": float("nan")}},
        {"head": PROOF["head"] | {"seq": float("inf")}},
        {"head": PROOF["head"] | {"stream": nested(DEEP)}},
        {"format": nested(DEEP)},
    ],
    ids=["infinite", "no number", "an infinite head", "a deep head", "a deep format"],
)
def test_what_no_proof_has_is_said_to_be_no_whole_proof(changed: dict[str, Any]) -> None:
    with pytest.raises(ProofError):
        check(PROOF | changed)


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (
            f'{{"format": "{FORMAT}", "message": {{"seq": 1e400}}, "head": {{"seq": 1}}}}',
            1,
            "does not hold: this is no whole proof",
        ),
        (f'{{"format": {"[" * DEEP}{"]" * DEEP}}}', 2, "cannot be read: "),
        ('{"a":' * DEEP + "1" + "}" * DEEP, 2, "cannot be read: "),
    ],
    ids=["infinite", "deep lists", "deep objects"],
)
def test_whatever_the_file_holds_the_exit_code_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, said: str
) -> None:
    file = tmp_path / "proof.json"
    file.write_text(text)
    assert main([str(file)]) == code
    told = capsys.readouterr()
    assert (told.out, told.err.startswith(said)) == ("", True)


def test_heads_that_were_kept_are_read_as_carefully(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, heads = tmp_path / "proof.json", tmp_path / "heads.jsonl"
    file.write_text("{}")
    heads.write_text("[" * DEEP)
    assert main([str(file), "--head", str(heads)]) == 2
    assert capsys.readouterr().err.startswith("cannot be read: ")
    with pytest.raises(ProofError, match="does not mention"):
        check_kept(PROOF, [{"stream": [], "seq": {}, "root": None}])
