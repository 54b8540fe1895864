"""``persona push-dataset``: the generated rows, with their card, to the Hub."""

from __future__ import annotations

import click

from app.cli.options import round_options
from rounds.context import RoundContext
from workbench.errors import UserError
from workbench.inference.hub import hub_errors


@click.command("push-dataset")
@round_options
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Make the dataset public; private by default.")
def push_dataset(context: RoundContext, repository: str, public: bool) -> None:
    """Send the round's generated rows to the Hub as OWNER/NAME, with a card.

    The token is the one of `hf auth login`, or HF_TOKEN. It is never written anywhere.

    \b
    Example:
      persona push-dataset my-team/gym-trainer-rows
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    from generation.card import FILES, dataset_card

    manifest = context.round.manifest("generate")
    if manifest is None or not manifest.counts.get("taught"):
        raise UserError(
            "the round has no generated rows",
            where=str(context.round.folder),
            fix="run `persona generate` with a teacher first",
        )
    folder = context.round.stage("generate")
    card = dataset_card(context.persona, manifest.model_dump(mode="json")).encode()
    operations = [CommitOperationAdd("README.md", card)]
    operations += [
        CommitOperationAdd(f"{name}.jsonl", folder / f"{name}.jsonl")
        for name in FILES
        if (output := manifest.outputs.get(f"{name}.jsonl")) and output.records
    ]
    api = HfApi()
    with hub_errors(repository):
        api.create_repo(repository, repo_type="dataset", private=not public, exist_ok=True)
        done = api.create_commit(
            repository,
            operations,
            repo_type="dataset",
            commit_message=f"{context.persona.id}: {manifest.counts['taught']} generated rows",
        )
    click.echo(done.commit_url)
