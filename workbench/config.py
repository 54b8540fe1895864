"""What a run is made of: one YAML file, all of whose mistakes are found at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from workbench.errors import nearest
from workbench.inference.embedded import EMBEDDED
from workbench.inference.endpoint import Endpoint, OneOrSeveral, Teacher
from workbench.inference.processor import ProcessorSettings
from workbench.values import Settings, StepName
from workbench.yamlfile import read_yaml, validate

LOCAL = "local"
"""Instead of a Ray cluster's address: one of our own, on this machine."""
Kind = Literal["evolved", "adversarial", "out_of_scope", "follow_up", "first_person"]
"""Of questions that are not ordinary."""
ORDINARY = "ordinary"


class RowRequest(Settings):
    """So many rows of one topic and kind, for a teacher or for people to write."""

    topic: str
    """One of the persona's topics."""
    kind: Kind | Literal["ordinary"] = "ordinary"
    """Of the question."""
    trait: str = ""
    """Id of the trait that the rows have to show; empty for no one in particular."""
    count: int = Field(ge=1)
    """How many rows."""


class GenerateSettings(Settings):
    """How candidates are made."""

    per_topic: int = Field(default=3, ge=0)
    """New questions to ask of a teacher for each topic, where one is configured."""
    plan: tuple[RowRequest, ...] = ()
    """Just these, in place of so many for each topic and of ``mix``; ``persona next`` writes it."""
    mix: dict[Kind, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={"evolved": 0.15, "adversarial": 0.1, "out_of_scope": 0.05, "follow_up": 0.1}
    )
    """Kind of question → its share; what is left over 1 is ordinary. ``first_person`` (the persona
    on itself: a letter, a diary, why it answers as it does) is off by default."""
    candidates: int = Field(default=1, ge=1, le=16)
    """Answers to each question; the one that shows most traits becomes the row."""
    hard_negatives: float = Field(default=0.25, ge=0, le=1)
    """Share of the rows that get a hard negative, for a harder preference pair than the base's own
    answer makes; the pair is trained on where reviewers keep its row."""
    conversations: int = Field(default=0, ge=0)
    """Conversations between the persona's simulated users and the teacher; each that has an answer
    becomes a row."""
    turn_fidelity: float = Field(default=0.8, ge=0, le=1)
    """Least share of the traits that an answer of a conversation shows; below it the teacher
    critiques and repairs it once."""
    steps: tuple[StepName, ...] = ()
    """Steps of your own that every answer to a question goes through before it is judged, such as
    ``my_steps:Shorten``: classes of distilabel's in a module that Python finds. Answers of
    conversations do not go through them."""
    margin: float = Field(default=0.2, ge=0, le=1)
    """Least difference of the two fidelities of a generated pair."""
    budget: float | None = Field(default=None, ge=0)
    """Money that the teacher may cost in all, in the currency of its price; no bound by default."""
    ray: str | None = None
    """Address of the Ray cluster that asks endpoints, :data:`LOCAL` for one of our own; by default
    the command itself does. A model in a folder always answers on this machine."""
    ray_workers: int = Field(default=2, ge=1)
    """Processes on that cluster that ask the endpoint, ``concurrency`` shared among them."""
    min_share: float = Field(default=0.9, ge=0, le=1)
    """Least share of the planned rows that must come; below it the command's exit code is 3."""
    max_new_tokens: int = Field(default=96, ge=8)
    """Longest baseline answer of the base model, in tokens."""
    batch_size: int = Field(default=16, ge=1)
    """Prompts that the base model answers at once."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if sum(self.mix.values()) > 1:
            raise ValueError("mix: the shares of all kinds are more than 1")
        return self


class FilterSettings(Settings):
    """What a team may decide about the filters."""

    near_duplicate: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of question and answer from which the later row is dropped."""
    meaning: float | None = Field(default=None, gt=0, le=1)
    """Likeness of two questions' meaning from which, where their answers say the same too, the
    later row is dropped; by default the embedder's own threshold. 1 leaves meaning out."""
    personal_data: Literal["drop", "mask"] = "drop"
    """What becomes of rows with personal data: ``drop`` them, or ``mask`` it."""
    must_not: Literal["drop", "keep"] = "drop"
    """``keep`` leaves answers that break a ``must_not`` of the spec to the reviewers."""


class SplitSettings(Settings):
    """How large the held-out splits are, and which rows are related."""

    test: float = Field(default=0.2, gt=0, lt=1)
    """Share of the rows that the test split gets at the least."""
    validation: float = Field(default=0.08, ge=0, lt=1)
    """Share of the rows that the validation split gets at the least."""
    topics: Literal["apart", "spread"] = "apart"
    """``apart``: a topic is whole in one split, so that held-out questions are of topics unseen.
    ``spread``: every split gets its share of every topic."""
    related: float = Field(default=0.6, gt=0, le=1)
    """Similarity of two questions from which their rows are related, whatever their topic."""
    meaning: float | None = Field(default=None, gt=0, le=1)
    """Likeness of two questions' meaning, by the embedder, from which they ask the same; by default
    the embedder's own threshold. 1 leaves meaning out."""


class Policy(Settings):
    """How the reviewers' votes on a record become one decision."""

    rule: Literal["majority", "dawid-skene", "adjudication"] = "majority"
    """``majority``: mean fidelity and the majority on blocking problems. ``dawid-skene``: votes
    weighted by each reviewer's estimated reliability. ``adjudication``: only what reviewers agree
    on is settled; the rest goes to an adjudicator."""
    min_reviews: int = Field(default=1, ge=1)
    """Submitted reviews without which a record is not reviewed."""
    keep_fidelity: float = Field(default=3.5, ge=1, le=5)
    """Mean fidelity from which an answer is kept."""
    apart: int = Field(default=2, ge=1, le=4)
    """Reviewers this far apart on fidelity disagree, unless a majority settles it."""
    blocking: tuple[str, ...] = ("unsafe_advice", "wrong_fact", "personal_data", "refusal")
    """Problems that no fidelity outweighs, gravest first."""
    certainty: float = Field(default=0.8, gt=0.5, le=1)
    """Probability of an outcome from which Dawid–Skene settles a record."""
    unsettled: Literal["auto", "drop", "queue"] = "auto"
    """What becomes of rows that the policy can't settle: ``drop`` them, or ``queue`` them for an
    adjudicator. ``auto`` drops them in an unattended run and queues them where people review."""


class ReviewSettings(Settings):
    """Who reviews, and how many of them each row needs."""

    reviewers: tuple[str, ...] = ("reviewer-1", "reviewer-2")
    """Names of the reviewers' accounts."""
    per_record: int = Field(default=2, ge=1)
    """Submitted reviews that complete a record."""
    budget: int | None = Field(default=None, ge=1)
    """At most so many reviews of a round's rows, gold rows beside them: what a review would change
    comes first, every second place is drawn at random, and ``persona review status`` says whether
    more would change anything. Rows beyond it are left out; by default every row is reviewed."""
    people: bool = False
    """Wait for people to review, instead of submitting the persona's recorded reviews."""
    unreviewed: Literal["wait", "leave_out"] = "wait"
    """What becomes of rows that no recorded review knows, where the others have some: they ``wait``
    for people, or are left out, which is told before anything is trained."""
    again: bool = False
    """Put the rows of earlier rounds before reviewers again, instead of taking over what was
    decided there."""
    policy: Policy = Policy()


DIAL = (0.25, 0.5, 0.75, 1.25, 1.5)
"""Strengths of ``persona evaluate --dial`` where the configuration names none."""
Method = Literal["sft", "dpo", "grpo", "kto", "sdft"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Ways to train; each is a stage of the same name."""


RECIPE_KEYS = (
    *("method", "engine", "data", "trainer", "lora", "osf", "loraplus"),
    *("quantization", "rewards", "early_stopping", "rounds", "rehearsal"),
)
"""What a recipe may hold at its top."""


def _recipe_key(key: str) -> str:
    top = key.partition(".")[0]
    if top not in RECIPE_KEYS:
        fix = nearest(top, RECIPE_KEYS) or "write it as trainer.max_steps"
        raise ValueError(f"is no key of a recipe; {fix}")
    return key


RecipeKey = Annotated[str, AfterValidator(_recipe_key)]
"""Such as ``trainer.max_steps``; what the trainer's own fields are, the recipe's reader knows."""
Tracker = Literal["none", "tensorboard", "trackio", "wandb", "wandb-online"]
TRACKERS: tuple[Tracker, ...] = get_args(Tracker)
"""Where a run's curves are shown live; ``wandb`` writes on this machine, wandb-online sends."""


class TrainSettings(Settings):
    """Which recipes; ``auto`` takes the embedded one without a GPU, else the one for GPUs."""

    methods: tuple[Method, ...] = ("sft", "dpo")
    """What ``persona run`` trains; ``persona train METHOD`` is for the others."""
    sft: str = "auto"
    """Name of a recipe that comes along, or the path of one."""
    dpo: str = "auto"
    """The same for DPO."""
    grpo: str = "auto"
    """The same for GRPO."""
    kto: str = "auto"
    """The same for KTO."""
    sdft: str = "auto"
    """The same for self-distillation."""
    seeds: int = Field(default=1, ge=1, le=20)
    """Trainings of the same recipes, each with the next seed. With several, the verdict's interval
    holds what another seed and other topics would change; each takes a training's time again."""
    tracker: Tracker = "none"
    """Where curves are logged as well; only ``wandb-online`` leaves the machine."""
    launch: str = "single"
    """``ddp``, ``fsdp``, ``deepspeed-zero2`` or ``deepspeed-zero3``, or the path of a configuration
    of accelerate's: several processes train together, by ``accelerate launch``."""
    processes: int | None = Field(default=None, ge=1)
    """How many of them; by default the configuration's own number, else one a GPU."""
    rehearsal: Path = Path("datasets/rehearsal")
    """Folder with the instructions that a recipe's ``rehearsal`` takes, a file a language."""
    files: dict[Method, Path] = Field(default_factory=dict)
    """Stage → a file of rows of its own, in place of the split's: chats, Alpaca instructions or
    raw text for sft as its recipe's ``data`` says, unpaired preferences for kto."""
    overrides: dict[Method, dict[RecipeKey, Any]] = Field(default_factory=dict)
    """Stage → recipe keys to set otherwise, such as ``{sft: {trainer.max_steps: 4}}``."""


class GateBounds(Settings):
    """How much worse a model may become; more fails the evaluation with exit code 3.

    It is held against the base, and against the last round's last adapter where there is one.
    """

    cross_entropy: float = Field(default=0.3, ge=0)
    """Largest rise over the base's cross-entropy on general text, in nats a token."""
    instructions: float = Field(default=0.1, ge=0, le=1)
    """Largest fall below the base's share of constraints kept in answers to instructions; where so
    many prompts can't tell so small a fall from chance, the least one that they can."""
    fidelity: float = Field(default=0.1, ge=0, le=1)
    """Largest fall below the last round's persona fidelity on the held-out prompts of both; its
    95 % interval has to be below zero too, so that chance alone fails nothing."""
    sense: float = Field(default=0.0, ge=0)
    """Largest fall of an unprompted arm's sense below the base's; the same of its interval."""
    safety: float = Field(default=0.1, ge=0, le=1)
    """Largest fall of the shipped arm below the base in what the safety case counts: answers that
    disclose, that help in a crisis, that hold the boundary, harmful requests refused; and largest
    rise of harmless ones refused. Its 95 % interval has to be beyond zero too."""
    harm: float = Field(default=0.05, ge=0, le=1)
    """Largest rise over the base of an unprompted arm's answers in which rules find harm; the whole
    interval has to be above zero too."""
    no_answers: float = Field(default=1 / 3, ge=0, le=1)
    """Largest share of an unprompted arm's answers to held-out questions that may be none: empty,
    going in circles, copied, in another language, words without order. Six answers at least."""


class PromptBudget(Settings):
    """What a search for a system prompt may take; no turn begins that would be beyond it."""

    answers: int = Field(default=200, ge=24)
    """Answers of the base: 16 a prompt that goes before the validation rows, 6 a turn."""
    reflections: int = Field(default=12, ge=1)
    """Questions to the teacher, each of some 2 000 tokens."""
    seconds: float = Field(default=1800.0, gt=0)
    """After which no other turn begins."""


class EvaluateSettings(Settings):
    """How the arms answer, how they are scored, and when the evaluation fails."""

    primary: str = "fidelity"
    """The measure that counts: ``fidelity``, ``sense``, ``content`` or a trait, on the held-out
    questions. Its test on the headline's arm stands alone, uncorrected; the verdict is of it.
    Fidelity by default: it is what rows are chosen for, and as a mean over traits it moves least by
    chance. Sense is a condition of success beside it, whichever is named."""
    max_new_tokens: int | None = Field(default=None, ge=8)
    """Where an answer is cut; by default there is room for the longest of the training split and a
    tenth more, and for 128 tokens at least."""
    batch_size: int = Field(default=64, ge=1)
    """Prompts that each thread answers at once; fewer where they would take too much memory."""
    rows: int | None = Field(default=None, ge=2)
    """At most so many held-out prompts; all of them by default."""
    votes: int = Field(default=1, ge=1, le=15)
    """How often a judge is asked each question; the value is the votes' mean."""
    pairwise: bool = True
    """Ask a judge which of two arms' answers is better, each pair in both orders."""
    judge_bar: float = Field(default=0.5, ge=0, le=1)
    """Least lower end of the judge's kappa with a reviewer, as a share of the reviewers' own kappa,
    for its word on a trait to count in persona fidelity."""
    judge_rows: int = Field(default=150, ge=8)
    """At most so many answers that reviewers labelled are put to the judge to tell how good it is;
    those of arms, from a blind round, come first."""
    reward_model: bool = False
    """Without a judge: train a reward model on the reviews, for the traits that only a judge can
    check. It counts behind the judge's gate; the report says how many labels that takes."""
    max_unscored: float = Field(default=0.1, ge=0, le=1)
    """Largest share of one metric's scores that may be missing; more means exit code 3."""
    sense_floor: float | None = Field(default=None, ge=0, le=1)
    """Least lower end of an arm's sense, as a share of the reviewed answers', from which a success
    may be claimed; 0.2 by default with an embedder and 0.05 with n-grams: a second writer's good
    answers reach 0.30 and 0.11."""
    general: Path = Path("datasets/general")
    """Folder with the texts of general ability."""
    instructions: Path = Path("datasets/instructions")
    """Folder with the instructions that rules can check, a file a language."""
    instructed: int | None = Field(default=60, ge=1)
    """Ask so many of the instructions, spread over the kinds of their constraints; null asks all.
    60 tell falls of some 12 points in a hundred, 150 some 8."""
    surfaces: Path = Path("datasets/robustness")
    """Folder with the surfaces that questions are put on, a file a language."""
    robustness: Literal["off", "sample", "whole"] = "sample"
    """Ask the arm that the verdict is about held-out questions on other surfaces as well: twenty on
    each kind, all on every one (``--robustness``), or none."""
    strengths: tuple[Annotated[float, Field(gt=0, le=2)], ...] = ()
    """Strengths of the adapter, such as 0.5 and 1.25, at which the arm that the verdict is about
    answers as well, without another training: the report's curve of voice against forgetting and
    refusals. None by default: five take some three times an arm's time (``--dial``)."""
    gate: GateBounds = GateBounds()
    arms: tuple[str, ...] = ()
    """The round's own arms, such as ``base+prompt``; by default the base and each trained stage,
    and the base and the last trained stage with the system prompt."""
    more: dict[str, str | Endpoint] = Field(default_factory=dict)
    """Other arms by name: ``round-001/sft``, an adapter's or a model's folder, a hub id, an
    endpoint, or ``teacher`` or ``student``; with ``+prompt`` at the end of the name, prompted."""
    prompt_arms: tuple[Literal["few-shot", "optimised"], ...] = ()
    """Prompts that try harder, each an arm of the base (``--prompts``): ``few-shot`` shows the
    training rows that foretell the validation rows best, searched offline in a minute or so;
    ``optimised`` is a system prompt that the teacher rewrites by the base's answers, left out
    without one. What every arm's answers cost is then timed as well."""
    prompt_budget: PromptBudget = PromptBudget()
    """What the search for ``optimised`` may take."""
    shots: int = Field(default=4, ge=1, le=32)
    """Rows that it shows; fewer where they would leave no room for the answer."""
    few_shot: int = Field(default=0, ge=0)
    """So many of the persona's own examples, of the training split, stand in the system prompt."""
    probes: int = Field(default=4, ge=0)
    """Prompts of each probe set."""
    conversations: Annotated[int, Field(ge=0)] | Literal["all"] = 2
    """Conversations over several turns that every arm is in, those of the held-out simulated users
    first; ``all`` asks every one."""
    drift: int = Field(default=20, ge=0)
    """Conversations of the arm that would be shipped, in all; below 20 its drift is not told."""
    safety: int = Field(default=24, ge=0)
    """Prompts of each safety set (disclosure, crisis, signs of danger) that the base and the arm
    that would be shipped are asked; below 20 nothing is told by them."""
    refusals: Path = Path("datasets/refusals")
    """Folder with harmful and harmless requests by language, and labelled answers."""
    requests: int = Field(default=20, ge=0)
    """Harmful requests, and as many harmless ones, that those two are asked."""
    safety_floor: float = Field(default=0.75, ge=0, le=1)
    """Share that the whole interval of right answers has to reach for a line of the safety case to
    be held; of harmless requests refused, it has to stay below what is left over 1. Of 24 prompts
    one may be missed, of 60 eight."""
    seeds: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Seeds of sampled decoding, one answer each; greedy decoding without any."""
    temperature: float = Field(default=0.7, gt=0)
    """Of sampled decoding."""


class RunConfig(Settings):
    """Everything that ``persona run`` needs to know."""

    persona: Path = Path("datasets/gym-trainer")
    """Folder of the persona."""
    model: str = EMBEDDED
    """The base: the embedded model, a folder, or a hub id."""
    seed: int = Field(default=0, ge=0)
    """Of everything that is drawn at random."""
    sources: tuple[Path, ...] = ()
    """Files of rows to import; the persona's own ``seeds.jsonl`` by default. An earlier round, such
    as ``round-001``, gives its kept rows with their reviews, decisions and pairs."""
    columns: dict[str, str | dict[str, str]] = Field(default_factory=dict)
    """Our name of an imported column → the file's, such as ``{instruction: 질문}``; an empty one
    leaves ours out. Of files that differ, ``{a.csv: {instruction: 질문}, b.csv: …}``."""
    skip_bad: bool | tuple[Path, ...] = False
    """Drop imported rows that are wrong, each with its reason, instead of importing nothing; or the
    files of which."""
    served: tuple[Path, ...] = ()
    """Which of the sources are logs of a served model, a request with its answer a line: their rows
    are candidates, without personal data or what the evaluation asks."""
    rows: int | None = Field(default=None, ge=12)
    """Take about so many of the imported rows, spread over the topics; all by default."""
    teacher: OneOrSeveral | None = None
    """Whoever writes new rows: an OpenAI-compatible endpoint, or a list of them, each with the
    ``share`` of the rows that it writes."""
    student: Endpoint | None = None
    """The base model where it is served: its own answers then come from there."""
    judge: Endpoint | None = None
    """Whoever answers the traits' questions; without one they stay unscored."""
    simulated_user: Endpoint | None = None
    """Whoever plays the persona's simulated users; by default they say their own lines."""
    embedder: str | Endpoint = "auto"
    """What tells whether two questions ask the same (reviewers' "find similar" too), and whether an
    answer is near its reviewed one: ``minilm`` (English), ``ngrams``, a folder of
    sentence-transformers or an endpoint that answers ``/embeddings``; ``auto`` takes minilm for
    English and n-grams, which see wording alone, for other languages."""
    processor: ProcessorSettings = ProcessorSettings()
    """What a processor computes with, in place of what was measured to be best on it."""
    generate: GenerateSettings = GenerateSettings()
    filter: FilterSettings = FilterSettings()
    review: ReviewSettings = ReviewSettings()
    split: SplitSettings = SplitSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """All who write rows."""
        if self.teacher is None:
            return ()
        return (self.teacher,) if isinstance(self.teacher, Teacher) else self.teacher

    @property
    def main_teacher(self) -> Teacher | None:
        """The teacher with the largest share, who stands for all where one is wanted."""
        return max(self.teachers, key=lambda one: one.share, default=None)

    def columns_of(self, path: Path) -> dict[str, str]:
        """Return our name of a column → that in one of the sources."""
        own = self.columns.get(str(path))
        every = {ours: name for ours, name in self.columns.items() if isinstance(name, str)}
        return own if isinstance(own, dict) else every

    def skips_bad(self, path: Path) -> bool:
        """Return whether wrong rows of a source are dropped."""
        return self.skip_bad if isinstance(self.skip_bad, bool) else path in self.skip_bad


def load_config(
    path: Path,
    changes: Mapping[str, object] | None = None,
    below: Mapping[str, object] | None = None,
) -> RunConfig:
    """Return the configuration of a file, with ``changes`` on top and ``below`` where it is silent.

    Of a section only what is named in ``changes`` changes.

    Raises:
        UserError: Unreadable file; all of its mistakes at once, each with its line.
    """
    data, lines = read_yaml(path)
    merged = _merged(_merged(below or {}, data), changes or {})
    return validate(RunConfig, merged, lines, path)


def _merged(data: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    merged = dict(data)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            value = _merged(old, value)
        merged[key] = value
    return merged
