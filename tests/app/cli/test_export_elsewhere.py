"""What ``persona export`` writes holds on another machine: ends, begin of text, names, no paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from tests.app.cli.conftest import trained_round
from tests.template_families import Families
from tests.training.export.conftest import make_adapter, make_base
from workbench.inference.base_models import examine_model, load_tokenizer
from workbench.inference.engines.llamacpp import available

needs_llama_cpp = pytest.mark.skipif(
    not available(), reason="NO LLAMA.CPP: no GGUF is checked by it on this machine"
)
CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "the chair today?"},
]


@pytest.fixture(scope="module")
def homes(families: Families, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function: family → a folder with a base of it, sure of its words, and an adapter."""
    made: dict[str, Path] = {}

    def home(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("someones-secret-project")
            base = make_base(folder / "base", families.tokenizer_folder(name))
            file = base / "tokenizer_config.json"
            config = {**json.loads(file.read_text()), "name_or_path": str(base)}
            file.write_text(json.dumps(config), encoding="utf-8")
            make_adapter(folder / "adapter", base)
            made[name] = folder
        return made[name]

    return home


@pytest.fixture
def export(
    homes: Any, persona_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Return a function that exports a family's adapter by the command: its folder, its lines."""

    def run(name: str, *arguments: str) -> tuple[Path, str]:
        options = trained_round(tmp_path, persona_folder, homes(name))
        code = main(["export", *arguments, "--prompts", "1", *options])
        out, err = capsys.readouterr()
        assert code == 0, err
        return Path(out.strip()), err

    return run


def paths_in(folder: Path) -> list[str]:
    """The text files of an export that name a folder of this machine."""
    homes = [f"{Path.home()}/", "/tmp/", "someones-secret-project"]
    return [
        file.name
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix not in (".safetensors", ".gguf")
        if any(home in file.read_text(encoding="utf-8") for home in homes)
    ]


def test_an_adapter_of_a_base_from_somebodys_home_names_no_path(export: Any) -> None:
    folder, _ = export("gemma-2", "hub", "team/coach")
    assert paths_in(folder) == []
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "base"
    # The base's template refuses a system role, and its files do not stop at the template's end.
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "system role refused: its text goes before the first question" in card
    assert 'tokenizer.chat_template = open("chat_template.jinja"' in card
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [6, 8]


def test_a_merged_folder_is_asked_and_stops_as_the_base_was_here(export: Any, homes: Any) -> None:
    base = homes("chatml") / "base"
    folder, _ = export("chatml", "merged")
    assert paths_in(folder) == []
    here, there = (load_tokenizer(one) for one in (base, folder))
    texts = [t.apply_chat_template(CHAT, tokenize=False) for t in (here, there)]
    assert texts[0] == texts[1]
    # Its ends: the template's, and what the base stopped at by itself.
    ids = [here.convert_tokens_to_ids(end) for end in ("<|endoftext|>", "<|im_end|>")]
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == ids
    assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"
    assert examine_model(base).stops is False and examine_model(folder).stops is True


@pytest.mark.parametrize("name", ["qwen-3", "llama-3", "harmony"])
def test_a_bridged_template_is_bridged_no_further(
    name: str, families: Families, tmp_path: Path
) -> None:
    from training.export.carried import carry

    carry(families.tokenizer_folder(name), tmp_path)
    once = (tmp_path / "chat_template.jinja").read_text(encoding="utf-8")
    assert load_tokenizer(tmp_path).chat_template == once


def test_vllm_is_told_every_end_and_no_path(export: Any) -> None:
    folder, _ = export("chatml", "vllm")
    assert paths_in(folder) == []
    assert "--generation-config ." in (folder / "serve.sh").read_text()
    assert json.loads((folder / "generation_config.json").read_text()) == {"eos_token_id": [0, 10]}


@needs_llama_cpp
@pytest.mark.slow
def test_ollama_gets_one_begin_of_text(export: Any) -> None:
    import gguf

    folder, err = export("llama-3", "ollama", "--type", "f16")
    assert paths_in(folder) == [] and "ADAPTER" not in err
    text = (folder / "Modelfile").read_text(encoding="utf-8")
    assert 'PARAMETER stop "<|eot_id|>"' in text and "ADAPTER" not in text
    # The file says to add it, so the Modelfile's template does not write it as well.
    fields = gguf.GGUFReader(next(folder.glob("*.gguf"))).fields
    assert fields["tokenizer.ggml.add_bos_token"].contents() is True
    assert "<|begin_of_text|>" not in text
    assert "Today: 26 Jul 2024" in text


@needs_llama_cpp
@pytest.mark.slow
def test_ollama_gets_every_end_and_newer_ones_no_adapter(export: Any) -> None:
    import gguf

    folder, err = export("chatml", "ollama", "--type", "f16", "--adapter")
    text = (folder / "Modelfile").read_text(encoding="utf-8")
    assert 'PARAMETER stop "<|endoftext|>"\nPARAMETER stop "<|im_end|>"' in text
    told = "Ollama from 0.34.1 on takes no ADAPTER: for it `persona export ollama` writes one"
    assert told in err and told in (folder / "README.md").read_text(encoding="utf-8")
    fields = gguf.GGUFReader(next(folder.glob("base-*.gguf"))).fields
    ends = [fields[f"tokenizer.ggml.{kind}_token_id"].contents() for kind in ("eos", "eot")]
    assert ends == [10, 0] and fields["tokenizer.ggml.add_bos_token"].contents() is False


@needs_llama_cpp
@pytest.mark.slow
def test_a_system_text_before_the_first_question_is_put_there_by_ollama_too(export: Any) -> None:
    folder, _ = export("gemma-2", "ollama", "--type", "f16")
    text = (folder / "Modelfile").read_text(encoding="utf-8")
    # Where there is no system text the first question opens its turn, else the system text does.
    assert "{{ if not .System }}<start_of_turn>user{{ end }}" in text
    assert '{{ if eq .Role "system" }}<start_of_turn>user\n{{ .Content }}\n{{ else if' in text
    assert 'PARAMETER stop "<eos>"\nPARAMETER stop "<end_of_turn>"' in text
