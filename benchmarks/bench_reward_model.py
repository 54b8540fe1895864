"""What a reward model of few labels should read: the base's hidden states, an embedder, or all.

``make bench-reward-model`` (or ``python benchmarks/bench_reward_model.py [--trl]``) takes the 144
answers of ``tests/data/sense`` that a reader labelled usable or not, and tells them over topics and
over questions that were not trained on: by logistic regressions on what the embedded base makes of
an answer, and on the vectors of all-MiniLM-L6-v2; with ``--trl`` by TRL's ``RewardTrainer`` with
LoRA on the same base, which takes minutes. Kappa with the reader and the area under the curve.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from workbench.inference.base_models import load_model, load_tokenizer, resolve_model
from workbench.inference.embedder import make_embedder
from workbench.inference.reward_model import answer_states
from workbench.records import user_prompt
from workbench.store import read_json_lines

LABELS = Path("tests/data/sense/labels.jsonl")
BASE = "smollm2-135m"
FOLDS = 4


def main() -> None:
    """Print a line for each way and each group that is held out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trl", action="store_true", help="TRL's RewardTrainer as well")
    options = parser.parse_args()
    rows = [row for _, row in read_json_lines(LABELS)]
    usable = np.array([bool(row["usable"]) for row in rows])
    topics = np.array([row["topic"] for row in rows])
    print(f"{len(rows)} answers, {usable.sum()} usable, {len(set(topics))} topics\n")
    for name, features in ways(rows).items():
        scale = features.shape[1] ** -0.5
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=scale, class_weight="balanced", max_iter=1000),
        )
        chances = cross_val_predict(
            model, features, usable, groups=topics, cv=GroupKFold(FOLDS), method="predict_proba"
        )[:, 1]
        show(name, chances, usable, np.array([row["arm"] for row in rows]))
    if options.trl:
        show("TRL's RewardTrainer", by_trl(rows, usable, topics), usable, None)


def show(name: str, chances: Any, usable: Any, arms: Any) -> None:
    """Print how far chances go with the labels, of all answers and of models' alone."""
    line = f"{name:52} kappa {kappa(chances, usable):5.2f}  area {area(chances, usable):.2f}"
    if arms is not None:
        own = arms != "reviewed"
        line += f"   models alone: {kappa(chances[own], usable[own]):5.2f}"
        line += f"  {area(chances[own], usable[own]):.2f}"
    print(line, flush=True)


def kappa(chances: Any, usable: Any) -> float:
    """Return Cohen's kappa of the words with the labels."""
    return float(cohen_kappa_score(usable, chances >= 0.5))


def area(chances: Any, usable: Any) -> float:
    """Return the area under the curve."""
    return float(roc_auc_score(usable, chances))


def ways(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return name → features, (n, d)."""
    folder = resolve_model(BASE)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    answered = [(user_prompt(row["question"]), row["answer"]) for row in rows]
    embedder = make_embedder("auto", "en", [row["answer"] for row in rows])
    answers, questions = (
        embedder.embed([row[key] for row in rows]) for key in ("answer", "question")
    )
    return {
        "the base's middle layer, mean over the answer": answer_states(model, tokenizer, answered),
        f"{embedder.name} of the answer": answers,
        f"{embedder.name} of the answer, times the question's": np.hstack(
            [answers, answers * questions]
        ),
    }


def by_trl(rows: list[dict[str, Any]], usable: Any, topics: Any) -> Any:
    """Return chances by rewards of TRL's trainer: pairs of a usable answer and one that is not."""
    chances = np.zeros(len(rows))
    for train, held_out in GroupKFold(FOLDS).split(rows, usable, topics):
        rewards = trained_rewards(rows, usable, train, [*train, *held_out])
        own, others = np.split(rewards, [len(train)])
        # A reward has no zero of its own: the middle between both kinds of training answers.
        middle = (own[usable[train]].mean() + own[~usable[train]].mean()) / 2
        chances[held_out] = 1 / (1 + np.exp(-(others - middle)))
    return chances


def pairs_of(rows: list[dict[str, Any]], usable: Any) -> list[dict[str, Any]]:
    """Return TRL's pairs: each usable answer to a question before each one that is not."""
    by_question: dict[str, tuple[list[str], list[str]]] = {}
    for row, good in zip(rows, usable, strict=True):
        by_question.setdefault(row["question"], ([], []))[int(not good)].append(row["answer"])
    return [
        {
            "prompt": [{"role": "user", "content": question}],
            "chosen": [{"role": "assistant", "content": good}],
            "rejected": [{"role": "assistant", "content": bad}],
        }
        for question, (goods, bads) in by_question.items()
        for good in goods
        for bad in bads
    ]


def trained_rewards(rows: list[dict[str, Any]], usable: Any, train: Any, asked: Any) -> Any:
    """Return the rewards of ``asked`` rows after training on pairs of ``train`` rows."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    folder = resolve_model(BASE)
    tokenizer = load_tokenizer(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=1, dtype=torch.float32
    )
    with tempfile.TemporaryDirectory() as out:
        trainer = RewardTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(pairs_of([rows[at] for at in train], usable[train])),
            peft_config=LoraConfig(task_type="SEQ_CLS", r=8, target_modules="all-linear"),
            args=RewardConfig(
                output_dir=out,
                max_steps=20,
                per_device_train_batch_size=4,
                learning_rate=3e-4,
                gradient_checkpointing=False,
                max_length=320,
                bf16=False,
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
            ),
        )
        trainer.train()
    rewards = []
    with torch.inference_mode():
        for at in asked:
            chat = [
                {"role": "user", "content": rows[at]["question"]},
                {"role": "assistant", "content": rows[at]["answer"]},
            ]
            ids = tokenizer.apply_chat_template(chat, return_dict=True, return_tensors="pt")
            rewards.append(float(trainer.model(**ids).logits[0, 0]))
    return np.array(rewards)


if __name__ == "__main__":
    main()
