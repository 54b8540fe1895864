"""The stages of data: what each reads, depends on and runs."""

from __future__ import annotations

from functools import partial

from workbench.cli.job import Job
from workbench.cli.split_files import earlier_rounds, placed_rows
from workbench.config import section
from workbench.records import Drop, Example, Preference, Response, Review
from workbench.rounds import StageSpec, Work
from workbench.store import existing, read_records, write_json, write_records


def import_stage(job: Job) -> StageSpec:
    """Rows of the persona's seed file, or of the files given."""
    return StageSpec(
        "import",
        partial(_import, job),
        files={"persona.yaml": job.persona_folder / "persona.yaml"}
        | {f"source:{path.name}": existing(path) for path in job.sources},
        settings={"rows": job.config.rows},
    )


def _import(job: Job, work: Work) -> None:
    from generation.importing import import_rows
    from workbench.sampling import take_spread

    kept: list[Example] = []
    preferences: list[Preference] = []
    dropped: list[Drop] = []
    for path in job.sources:
        imported = import_rows(path, job.persona)
        kept += imported.kept
        preferences += imported.preferences
        dropped += imported.dropped
    taken = take_spread(kept, job.config.rows)
    work.counts.update(kept=len(taken), preferences=len(preferences), dropped=len(dropped))
    write_records(work.out / "examples.jsonl", taken)
    write_records(work.out / "preferences.jsonl", preferences)
    write_records(work.out / "drops.jsonl", dropped)


def filter_stage(job: Job) -> StageSpec:
    """Candidates without the rows that a rule can tell are faulty."""
    return StageSpec(
        "filter",
        partial(_filter, job),
        inputs=("import/examples.jsonl", "generate/examples.jsonl"),
        files={"persona.yaml": job.persona_folder / "persona.yaml"},
        settings=job.config.filter,
        packages=("datasketch", "langdetect", "phonenumbers", "python-stdnum"),
    )


def _filter(job: Job, work: Work) -> None:
    from curation.filters import FilterSettings, filter_examples

    rows = [
        *read_records(work.input("import/examples.jsonl"), Example),
        *read_records(work.input("generate/examples.jsonl"), Example),
    ]
    settings = section(FilterSettings, job.config.filter, "filter")
    filtered = filter_examples(rows, job.persona, settings)
    work.counts.update(kept=len(filtered.kept), dropped=len(filtered.dropped))
    work.counts["reasons"] = filtered.reasons
    write_records(work.out / "examples.jsonl", filtered.kept)
    write_records(work.out / "drops.jsonl", filtered.dropped)


def resolve_stage(job: Job) -> StageSpec:
    """A decision for every reviewed row, by the policy of the configuration."""
    return StageSpec(
        "resolve",
        partial(_resolve, job),
        inputs=("filter/examples.jsonl", "review/reviews.jsonl", "generate/bare.jsonl"),
        files={"persona.yaml": job.persona_folder / "persona.yaml"},
        settings=job.config.review.policy,
        packages=("krippendorff",),
    )


def _resolve(job: Job, work: Work) -> None:
    from curation.review.agreement import agreement
    from curation.review.policy import Policy
    from curation.review.resolve import resolve

    rows = list(read_records(work.input("filter/examples.jsonl"), Example))
    reviews = list(read_records(work.input("review/reviews.jsonl"), Review))
    answers = {
        response.prompt_id: response.text
        for response in read_records(work.input("generate/bare.jsonl"), Response)
    }
    # A masked row is a new record; the base model answered the row that it came from.
    bare = {
        row.id: answers[known]
        for row in rows
        if (known := next((i for i in (row.id, *row.parents) if i in answers), None))
    }
    policy = section(Policy, job.config.review.policy, "review.policy")
    resolved = resolve(job.persona, rows, reviews, policy, bare)
    work.counts.update(
        kept=len(resolved.examples),
        preferences=len(resolved.preferences),
        dropped=len(resolved.drops),
        queue=len(resolved.queue),
    )
    write_records(work.out / "examples.jsonl", resolved.examples)
    write_records(work.out / "preferences.jsonl", resolved.preferences)
    write_records(work.out / "drops.jsonl", resolved.drops)
    measured = agreement(rows, reviews, policy, problems=job.persona.problems, seed=job.config.seed)
    write_json(work.out / "agreement.json", measured.model_dump(mode="json"))


def split_stage(job: Job) -> StageSpec:
    """Train, validation and test, whole topic groups to one side each."""
    return StageSpec(
        "split",
        partial(_split, job),
        inputs=(
            "resolve/examples.jsonl",
            "resolve/preferences.jsonl",
            "import/preferences.jsonl",
        ),
        # The ids of rows are hashes of their content, so the assignment stands for the rows too.
        files={
            f"{one.name}/split": one.stage("split") / "splits.jsonl"
            for one in earlier_rounds(job.round)
        },
        settings=job.config.split,
        packages=("datasketch", "scipy"),
    )


def _split(job: Job, work: Work) -> None:
    from curation.split import SplitSettings, split_rows

    sides = split_rows(
        list(read_records(work.input("resolve/examples.jsonl"), Example)),
        [
            *read_records(work.input("resolve/preferences.jsonl"), Preference),
            *read_records(work.input("import/preferences.jsonl"), Preference),
        ],
        seed=job.config.seed,
        settings=section(SplitSettings, job.config.split, "split"),
        earlier=placed_rows(job.round),
    )
    for side, examples in sides.examples.items():
        work.counts[side] = len(examples)
        work.counts[f"{side}_topics"] = sides.groups(side)
        write_records(work.out / f"{side}.jsonl", examples)
        write_records(work.out / f"preferences-{side}.jsonl", sides.preferences[side])
    work.counts["dropped"] = len(sides.drops)
    write_records(work.out / "splits.jsonl", sides.splits)
    write_records(work.out / "drops.jsonl", sides.drops)


def check_settings(job: Job) -> None:
    """Check the sections that stages validate themselves, before anything runs.

    Raises:
        UserErrors: Every mistake of the first section that has any.
    """
    from curation.filters import FilterSettings
    from curation.review.policy import Policy
    from curation.split import SplitSettings

    section(FilterSettings, job.config.filter, "filter")
    section(Policy, job.config.review.policy, "review.policy")
    section(SplitSettings, job.config.split, "split")
