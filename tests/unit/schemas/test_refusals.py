"""Every reason to say no has a lasting code, a meaning, and advice that helps."""

import re

import pytest

from schemas.answers import refuse
from schemas.explaining import PAGE, page
from schemas.refusals import Refusal

every_code = pytest.mark.parametrize("code", Refusal, ids=str)


@every_code
def test_a_code_has_its_form(code: Refusal) -> None:
    assert re.fullmatch(r"HW-[A-Z][0-9]{3}", code)


@every_code
def test_a_code_has_a_meaning_and_advice_in_whole_sentences(code: Refusal) -> None:
    for sentence in (code.meaning, code.advice):
        assert sentence[0].isupper() or sentence.startswith("hwbus ")
        assert sentence.endswith(".")
        assert sentence == " ".join(sentence.split())


def test_no_code_stands_for_two_reasons() -> None:
    assert len({str(code) for code in Refusal.__members__.values()}) == len(Refusal.__members__)


def test_a_refusal_without_advice_of_its_own_carries_that_of_its_code() -> None:
    assert refuse(Refusal.CAPACITY, "n1/fast is full").fix == Refusal.CAPACITY.advice
    assert refuse(Refusal.CAPACITY, "n1/fast is full", "buy disks").fix == "buy disks"


def test_the_page_on_refusals_is_up_to_date_and_knows_every_code() -> None:
    assert PAGE.read_text() == page(), "run: make derive"
    assert all(f"`{code}`" in page() for code in Refusal)
