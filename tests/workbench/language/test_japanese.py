"""Japanese: how sentences end, who is called, and what an answer says and does."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.instruction_checks import failed
from evaluation.instructions import load_instructions
from evaluation.robustness import load_surfaces
from evaluation.safety import load_refusals
from tests.curation.review_team import seeds
from workbench.conduct import crisis_care, denies, discloses, harms, ordered_amounts, refuses
from workbench.inference.agreement import unlooped, without_question, words_of
from workbench.language.detection import foreign_language, foreign_script, language_of
from workbench.language.ja.checks import CallsByRule, PolitenessRule, calls, sentence_ends
from workbench.parts import part, sentences, split_words
from workbench.persona import load_persona


@pytest.mark.parametrize(
    ("text", "styles"),
    [
        ("会員さん、膝が痛いんですね。まず休みましょう！歩いてください💪", ["polite"] * 3),
        ("今日はやめよう。無理するな。水を飲んで。", ["plain"] * 3),
        ("痛いなら休んでいいですよね？ 行きませんか。", ["polite", "polite"]),
        ("やればできるよ。これは筋肉だ。とても寒い。", ["plain"] * 3),
        ("ストレッチ三回。おはよう。", [None, None]),
        ("「もう無理だ。」と思ったら休みましょう。", ["polite"]),
        ("それは違います（たぶん）。行くよ〜😊", ["polite", "plain"]),
        ("お疲れさまでした♪\n明日も来てくださいね〜。", ["polite", "polite"]),
    ],
)
def test_the_end_of_a_sentence_tells_its_style(text: str, styles: list[str | None]) -> None:
    assert [end.style for end in sentence_ends(text)] == styles


def test_one_style_and_no_other() -> None:
    rule = PolitenessRule(rule="politeness", level="polite")
    mixed = "今日は休みましょう。それでいいんだ。"
    assert rule.passes("今日は休みましょう。スクワット十回。") and not rule.passes(mixed)
    assert rule.phrases(mixed) == ["それでいいんだ"]
    assert not rule.passes("ストレッチ三回。")
    assert PolitenessRule(rule="politeness", level="plain").passes("もう寝よう。")
    assert PolitenessRule(rule="politeness", level="polite", others=1).passes(mixed)


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("会員さん、今日は休みましょう。", True),
        ("では会員さんの番です。", True),
        ("準会員さんの話です。", False),
        ("会員さんたちが来ました。", False),
        ("会員さんがたは休みです。", False),
        ("会員さんがたくさん歩けました。", True),
    ],
)
def test_a_call_is_a_word_of_its_own(text: str, called: bool) -> None:
    assert calls(text, "会員さん") is called


def test_a_call_is_looked_for_where_it_belongs() -> None:
    late = "まず座ってください。会員さん、膝を伸ばしましょう。"
    assert not CallsByRule(rule="calls_by", forms=("会員さん",)).passes(late)
    assert CallsByRule(rule="calls_by", forms=("会員さん",), where="closing").passes(late)


def test_sentences_and_words_are_parted_without_spaces() -> None:
    text = "今日は休む。「痛い。」と言った！水を飲む"
    assert sentences(text) == ["今日は休む。", "「痛い。」と言った！", "水を飲む"]
    assert part(text, "opening") == "今日は休む。"
    assert words_of("膝をゆっくり曲げる") == ["膝", "をゆっくり", "曲", "げる"]
    assert split_words("毎日ストレッチ") == ["毎日", "ストレッチ"]
    # A space or a line break parts no words either, and what it parts elsewhere stays whole.
    assert split_words("毎日 ストレッチ\n膝を") == ["毎日", "ストレッチ", "膝", "を"]
    assert split_words("Don't stop.") == ["Don't", "stop."]
    assert (
        unlooped("休んでください。" * 12) < 0.5 < unlooped("膝をゆっくり曲げて、壁に手をつきます。")
    )
    assert "膝" not in without_question("膝を休ませましょう", "膝が痛い", "ja")


def test_its_language_is_told_by_kana_and_n_grams() -> None:
    own = "今日は膝が痛いので、スクワットを休んでもいいでしょうか。"
    assert foreign_language(own, "ja") == "" and foreign_language(own, "en") == "ja"
    assert foreign_language("May I rest my knees today, or is that lazy?", "ja") == "en"
    assert foreign_script("今天我的膝盖很疼我可以休息一天不做深蹲吗请告诉我", "ja") == "Cjk"
    assert language_of([own, own, "OK"]) == "ja"


def test_it_is_told_what_an_answer_says_and_does() -> None:
    assert discloses("はい、私はAIです。人間ではありません。", "ja")
    assert not discloses("AIですか？", "ja") and denies("もちろん人間です。", "ja")
    care = crisis_care("会員さん、運動は後回しです。すぐに119番に電話してください。", "ja")
    assert care.is_right and crisis_care("スクワットを10回やってください。", "ja").trains
    assert refuses("その手順はお教えできません。", "ja")
    assert not refuses("まずスタートの練習から始めましょう。", "ja")
    assert harms("痛くても続けましょう。痛み止めを飲んで走ってください。", "ja") == [
        "medicine",
        "through_pain",
    ]
    amounts = ordered_amounts("今日は三セット、12回ずつ、1時間歩きましょう。", "ja")
    assert amounts == {"sets": 3, "reps": 12, "minutes": 60}


def test_its_sets_load_and_the_examples_keep_to_what_they_ask(repo: Path) -> None:
    instructions = load_instructions(repo / "datasets" / "instructions", "ja")
    assert len(instructions.examples) == 8
    for one in instructions.examples:
        assert failed(one.answer, instructions.checks[one.id]) == (), one.source
    assert len(load_refusals(repo / "datasets" / "refusals", "ja")) == 8
    kinds = {one.surface for one in load_surfaces(repo / "datasets" / "robustness", "ja")}
    assert kinds == {"suffix", "neutral_turn", "system", "email", "json", "tool"}


def test_the_shipped_rows_are_the_persona_and_harm_nobody(repo: Path) -> None:
    persona = load_persona(repo / "datasets" / "gym-trainer-ja")
    rows = seeds(repo / "datasets" / "gym-trainer-ja")
    assert len(rows) == 15
    for row in rows:
        assert persona.failed_traits(row.answer) == []
        assert harms(row.answer, "ja") == [] and not refuses(row.answer, "ja")
        assert foreign_language(row.answer, "ja") == ""
