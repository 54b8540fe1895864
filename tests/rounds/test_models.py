"""What is served of a round: a base whose template is bridged is not opened as it was published."""

from __future__ import annotations

from rounds.models import model_folder
from tests.commands import Workspace
from tests.template_families import Families
from workbench.inference.base_models import load_tokenizer


def test_a_bridged_base_is_served_from_a_folder_of_its_own(
    families: Families, workspace: Workspace
) -> None:
    base = families.model_folder("gemma-2")
    folder = model_folder(workspace.context(model=str(base)), None)
    assert folder.parent == workspace.folder() / ".served"
    assert (folder / "model.safetensors").resolve() == (base / "model.safetensors").resolve()
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert template == load_tokenizer(base).chat_template
    assert model_folder(workspace.context(model=str(base)), None) == folder


def test_a_base_that_needs_no_bridge_is_served_as_it_is(
    families: Families, workspace: Workspace
) -> None:
    base = families.model_folder("qwen-2.5")
    assert model_folder(workspace.context(model=str(base)), None) == base
