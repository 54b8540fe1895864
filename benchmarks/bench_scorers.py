"""How well each measure of sense tells reviewed answers from arms that nobody would ship.

``python benchmarks/bench_scorers.py [--record]`` prints, in both languages, each planted arm's
fidelity by the rules, its sense, the shares of its answers that answer, that are none and that may
harm, and the area under the curve of each measure against the reviewed answers: 1.00 tells them
apart wholly, 0.50 not at all. ``--record`` keeps the losses under the embedded base that the tests
read (minutes). Before it stands how often the safety case's rules are right on labelled answers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from evaluation.arms import Arm, ModelPool
from evaluation.safety_case import RuleCheck, check_refusal_rules
from evaluation.sense import ANSWERED, AnswerSense, Loss, SenseInput, language_loss, measure_sense
from tests.planted_arms import LABELS, PERSONAS, arms, base_answers, loss_key, planted
from workbench.conduct import crisis_care, discloses, harms
from workbench.inference.base_models import resolve_model
from workbench.inference.embedded import EMBEDDED
from workbench.inference.embedder import make_embedder
from workbench.language import load_pack
from workbench.persona import Language

MEASURES: dict[str, Callable[[AnswerSense], float]] = {
    "sense": lambda one: one.sense,
    "agreement": lambda one: one.agreement,
    "on question": lambda one: 0.5 if one.on_question is None else one.on_question,
    "fluency": lambda one: -one.loss,
    "weaker half": lambda one: one.half,
}


def measures_of(language: Language, loss: Loss) -> dict[str, list[AnswerSense]]:
    """Return arm → the measures of its answers."""
    rows = planted(language)
    corpus = [row.answer for row in (*rows.train, *rows.test)]
    embedder = make_embedder("auto", language, corpus)
    train = [row.answer for row in rows.train]
    inputs = SenseInput(language, rows.test, train, embedder, loss, "recorded", rows.persona)
    texts = {**arms(language), "base": base_answers(language)}
    every = {arm: rows.responses(arm, own) for arm, own in texts.items()}
    measures = measure_sense([one for own in every.values() for one in own], inputs)
    return {arm: [measures[one.id] for one in own] for arm, own in every.items()}


def table(language: Language, loss: Loss) -> list[str]:
    """Return the lines of a language's table."""
    from sklearn.metrics import roc_auc_score

    rows, measures = planted(language), measures_of(language, loss)
    traits = rows.persona.rule_traits
    texts = {**arms(language), "base": base_answers(language)}
    bar = ANSWERED[language == "en"]
    head = f"{'arm':22}{'fidelity':>9}{'sense':>7}{'answers':>8}{'none':>6}{'harm':>6}"
    lines = [f"{head}  AUC of {', '.join(MEASURES)}"]
    for arm, own in measures.items():
        shown = [bool(trait.passes(text)) for text in texts[arm] for trait in traits]
        sense = sum(one.sense for one in own) / len(own)
        answered = sum(one.sense >= bar for one in own) / len(own)
        areas = []
        for measure in MEASURES.values():
            values = [*map(measure, measures["reviewed"]), *map(measure, own)]
            truth = [1] * len(measures["reviewed"]) + [0] * len(own)
            areas.append(f"{roc_auc_score(truth, values):6.2f}")
        fidelity = sum(shown) / len(shown)
        none = sum(one.guard is not None for one in own) / len(own)
        harm = sum(bool(one.harm) for one in own) / len(own)
        line = f"{arm:22}{fidelity:9.2f}{sense:7.2f}{answered:8.2f}{none:6.2f}{harm:6.2f}"
        lines.append(f"{line}  {''.join(areas)}")
    return lines


def recorded(texts: Sequence[str]) -> list[float]:
    """Return the losses that are kept; 0.0 of a text of which none is."""
    losses = json.loads((LABELS / "losses.json").read_text("utf-8"))
    return [losses.get(loss_key(text), 0.0) for text in texts]


def record() -> None:
    """Measure the losses of English texts of which none is kept under the embedded base."""
    kept = json.loads((LABELS / "losses.json").read_text("utf-8"))
    with TemporaryDirectory() as folder:
        pool = ModelPool(resolve_model(EMBEDDED), [Arm("base")])
        loss, _ = language_loss("en", pool, Path(folder))
        every = (*arms("en").values(), base_answers("en"))
        texts = sorted({t for own in every for t in own if t and loss_key(t) not in kept})
        losses = zip(map(loss_key, texts), loss(texts), strict=True)
        kept |= {key: round(value, 3) for key, value in losses}
    (LABELS / "losses.json").write_text(json.dumps(dict(sorted(kept.items())), indent=0), "utf-8")


RULES: dict[str, Callable[[str, Language], bool]] = {
    "disclosure": discloses,
    "crisis": lambda text, language: crisis_care(text, language).is_right,
    "harm": lambda text, language: bool(harms(text, language)),
    "harm-evasive": lambda text, language: bool(harms(text, language)),
}


def rules(language: Language) -> list[str]:
    """Return how often each rule of the safety case is right on labelled answers."""
    lines = [f"{'rule':28}{'n':>5}{'right':>7}{'precision':>11}{'recall':>8}"]
    for name, rule in RULES.items():
        file = Path(f"tests/data/conduct/{name}.{language}.jsonl")
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        check = RuleCheck.of([(row["right"], rule(row["text"], language)) for row in rows])
        lines.append(_rule_line(name, check))
    shipped = check_refusal_rules(Path("datasets/refusals"), language)
    return [*lines, *([_rule_line("refusal, datasets/refusals", shipped)] if shipped else [])]


def _rule_line(name: str, check: RuleCheck) -> str:
    precision, recall = check.precision or 0.0, check.recall or 0.0
    return f"{name:28}{check.n:5}{check.accuracy:7.2f}{precision:11.2f}{recall:8.2f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    if parser.parse_args().record:
        record()
    for language in PERSONAS:
        print(f"\n{language}", *rules(language), sep="\n")
        loss: Loss = recorded
        if load_pack(language).loss:
            loss = language_loss(language, ModelPool(Path(), []), Path())[0]
        print(f"\n{language}", *table(language, loss), sep="\n")


if __name__ == "__main__":
    main()
