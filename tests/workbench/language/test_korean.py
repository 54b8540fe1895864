"""Korean by its morphemes: the sentences that patterns get wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from workbench.checks import Check, Judge
from workbench.language.ko.checks import calls, endings, honorifics, misused_honorifics


def levels(text: str) -> list[str | None]:
    return [ending.level for ending in endings(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("지금 바로 일어나서 물 한 컵 드세요!", ["haeyo"]),
        ("근육이 놀라서 그런 거예요.", ["haeyo"]),
        ("다들 바빠서 볼 틈이 없으니까요.", ["haeyo"]),
        ("그렇죠? 맞지요?", ["haeyo", "haeyo"]),
        # 요 after a noun and its particle.
        ("회원님은요?", ["haeyo"]),
        # A call after the verb, an emoji, letters that laugh: the verb still ends the sentence.
        ("그 정도는 괜찮아요, 회원님!", ["haeyo"]),
        ("제가 토요일에 확인해 드릴게요! 💪", ["haeyo", None]),
        ("푹 자요ㅋㅋ 내일 봐요~", ["haeyo", "haeyo"]),
        ("운동을 하십시오. 원인은 다양합니다.", ["hapsyo", "hapsyo"]),
        ("왜 그렇습니까?", ["hapsyo"]),
        ("지금 해. 그래야 커. 너 왜 안 해?", ["banmal"] * 3),
        ("한 세트만 하고 집에 가자.", ["banmal"]),
        ("할 거야?", ["banmal"]),
        # 니까 ends 합쇼체 questions, and 반말 too.
        ("글쎄 쉬라니까.", ["banmal"]),
        ("하루 세 번 함.", ["banmal"]),
        # 요 inside a word is no ending: 필요, 요가.
        ("휴식이 필요하다.", ["banmal"]),
        ("스쿼트 3세트, 끝.", [None]),
        # A plain ending that only joins a clause, and one that a line break ends.
        ("맨몸이냐 바벨이냐 고르느라 아직도 서 계시죠?", ["haeyo"]),
        ("오늘은 쉬자\n내일 봐요.", ["banmal", "haeyo"]),
        # What others say in quotation marks is theirs.
        ("'더 해!'라고 하면 도망가세요.", ["haeyo"]),
        ("“운동합니다.”라고만 적어요.", ["haeyo"]),
        ("", []),
    ],
)
def test_the_level_of_each_sentence(text: str, expected: list[str | None]) -> None:
    assert levels(text) == expected


def test_an_ending_is_found_where_it_stands() -> None:
    text = "물 한 컵 드세요. 그래야 산다."
    assert [text[ending.start : ending.end] for ending in endings(text)] == ["드세요", "산다"]


@pytest.mark.parametrize(
    ("text", "is_called"),
    [
        ("회원님, 앉으세요.", True),
        ("자 회원님은 쉬세요.", True),
        ("비회원님도 오세요.", False),
        ("회원님들 오세요.", False),
        ("회원이 많아요.", False),
    ],
)
def test_a_form_of_address_is_a_word_of_its_own(text: str, is_called: bool) -> None:
    assert calls(text, "회원님") is is_called


def test_what_raises_the_hearer_and_lowers_the_speaker_counts() -> None:
    found = [m.form for m in honorifics("회원님, 지금 앉으시고 물 드세요. 제가 봐 드릴게요.")]
    assert found[:2] + found[3:] == ["님", "으시", "저", "드리"]
    # 드세요 counts, whatever the analyser cuts it into.
    assert len(found) == 5
    assert honorifics("지금 앉아. 내가 볼게.") == []
    # 시 is a syllable of 시간 and 다시 as well.
    assert honorifics("다시 한 시간 걸어요.") == []


@pytest.mark.parametrize(
    ("text", "misused"),
    [
        ("이거 마시고 가실게요.", ["실게요"]),
        ("내가 도와줄게요.", ["내"]),
        ("당신 참 잘하네요.", ["당신"]),
        ("너 왜 안 와요?", ["너"]),
        # 너무, 네 번, 네, 나가다 and 나중 are not pronouns.
        ("너무 아프면 네 번만 해요. 네, 나중에 나가요.", []),
        ("‘내가 왜 이러지’ 하지 말고 오세요.", []),
        ("한 달 전 내 사진을 보세요. 탈이 나는 일이 많거든요.", []),
        ("제가 확인해 드릴게요.", []),
    ],
)
def test_raising_oneself_and_plain_pronouns_are_misuse(text: str, misused: list[str]) -> None:
    assert misused_honorifics(text) == misused


def rule(**fields: object) -> Any:
    check = TypeAdapter(Check).validate_python(fields)
    assert not isinstance(check, Judge)
    return check


GOOD = "회원님, 일어나세요. 근육이 굳었거든요. 오늘은 걸어요. 제가 볼게요! 💪"


def test_a_persona_names_them_as_checks() -> None:
    haeyo = rule(rule="speech_level", level="haeyo", min=4)
    assert haeyo.passes(GOOD)
    assert not haeyo.passes(GOOD.replace("걸어요", "걸어"))
    assert haeyo.phrases(GOOD.replace("걸어요", "걷습니다")) == ["걷습니다"]
    assert not haeyo.passes("회원님, 일어나세요.")
    assert rule(rule="speech_level", level="haeyo", min=3, others=1).passes(
        GOOD.replace("걸어요", "걸어")
    )
    assert rule(rule="address", forms=["회원님"]).passes(GOOD)
    assert not rule(rule="address", forms=["회원님"]).passes("일어나세요. 회원님!")
    assert rule(rule="honorifics", min=3).passes(GOOD)
    assert not rule(rule="honorifics", min=3).passes(GOOD.replace("제가", "내가"))
    with pytest.raises(ValidationError, match="level"):
        rule(rule="speech_level", level="polite")


def test_naming_the_checks_loads_no_analyser(repo: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, workbench.persona; print('kiwipiepy' in sys.modules)"],
        cwd=repo,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "False"
