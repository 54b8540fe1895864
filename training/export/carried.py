"""What goes along with an export's weights: tokenizer, template, ends, a prompt, no paths.

In: a base's folder. Out: files that hold on another machine: servers that open them render the
prompts of training, stop at every end, and read no path of this one. Called by the exports and by
``persona serve``.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from workbench.inference.base_models import load_tokenizer
from workbench.inference.chat_template import ends, examine
from workbench.store import expanded, read_json, write_json

TEMPLATE = "chat_template.jinja"
GENERATION = "generation_config.json"
SYSTEM = "system_prompt.txt"
"""What the arm was evaluated under, as text, for whatever asks the export."""
_CARRIED = ("*.json", "*.jinja", "*.model", "*.txt")
"""Files of a base that go along with weights."""
_NOT_CARRIED = {"workbench.json", "model.safetensors.index.json"}
_HOLDS_NO_PATH = {"tokenizer.json", "vocab.json", "added_tokens.json"}
"""Tokens may look like paths."""


def public_name(base_name: str) -> str:
    """Return a base's name without the path of this machine: of a folder, its last part."""
    path = expanded(base_name)
    return path.resolve().name if path.is_absolute() or path.is_dir() else base_name


def copy_adapter_config(file: Path, out: Path, base_name: str) -> None:
    """Copy an adapter's configuration, naming its base as others know it."""
    config = {**read_json(file), "base_model_name_or_path": public_name(base_name)}
    write_json(out / file.name, without_paths(config))


def carry(base: Path, out: Path) -> None:
    """Copy what goes along with a base's weights; the template is the bridged one."""
    files = {path for pattern in _CARRIED for path in base.glob(pattern)}
    for path in sorted(file for file in files if file.name not in _NOT_CARRIED):
        if path.suffix == ".json" and path.name not in _HOLDS_NO_PATH:
            write_json(out / path.name, without_paths(read_json(path)))
        else:
            shutil.copyfile(path, out / path.name)
    tokenizer = load_tokenizer(base)
    (out / TEMPLATE).write_text(str(tokenizer.chat_template), encoding="utf-8")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (out / name).exists():
            config = read_json(out / name)
            config.pop("chat_template", None)
            if "eos_token" in config:
                config["eos_token"] = tokenizer.eos_token
            write_json(out / name, config)
    write_ends(base, out)


def write_ends(base: Path, out: Path, *, bare: bool = False) -> None:
    """Write a generation configuration in which every end of an answer ends it.

    ``bare`` leaves out what else the base says, such as how it samples.
    """
    file = base / GENERATION
    config = {} if bare or not file.exists() else without_paths(read_json(file))
    write_json(out / GENERATION, {**config, "eos_token_id": ends(load_tokenizer(base), base)})


def serving_folder(base: Path, out: Path) -> None:
    """Fill a folder that a server opens in place of the base: linked weights, bridged template."""
    carry(base, out)
    for file in (*base.glob("*.safetensors"), *base.glob("model.safetensors.index.json")):
        (out / file.name).symlink_to(file.resolve())


def lead_by(template: Path, system: str) -> None:
    """Let a chat template begin a chat that has no system turn with ``system``; none if empty."""
    if not system:
        return
    # Jinja reads a string as JSON writes it, but for the escaped / that json does not write.
    turn = f'{{"role": "system", "content": {json.dumps(system, ensure_ascii=False)}}}'
    lead = (
        "{%- if not messages or messages[0]['role'] != 'system' %}"
        f"{{%- set messages = [{turn}] + messages %}}{{%- endif %}}"
    )
    template.write_text(lead + template.read_text(encoding="utf-8"), encoding="utf-8")


def write_preset(out: Path, name: str, system: str) -> None:
    """Write LM Studio's preset of a system prompt, with the decoding of the evaluation."""
    settings = {
        "llm.prediction.systemPrompt": system,
        "llm.prediction.temperature": 0,
        "llm.prediction.repeatPenalty": {"checked": True, "value": 1},
    }
    fields = [{"key": key, "value": value} for key, value in settings.items()]
    preset = {"operation": {"fields": fields}, "load": {"fields": []}}
    about = {"identifier": f"@local:{name}", "name": name, "changed": False}
    write_json(out / f"{name}.preset.json", about | preset)


def is_bridged(base: Path) -> list[str]:
    """Return what is bridged of a base's template, a line each."""
    from workbench.inference.base_models import published_tokenizer

    return examine(published_tokenizer(base), base).bridged()


def without_paths(value: object) -> Any:
    """Return JSON values without the fields that hold a path of this machine."""
    if isinstance(value, dict):
        fields = {key: without_paths(one) for key, one in value.items()}
        return {key: one for key, one in fields.items() if not _is_path(one)}
    return [without_paths(one) for one in value] if isinstance(value, list) else value


def _is_path(value: object) -> bool:
    if not isinstance(value, str) or "\n" in value or len(value) > 1000:
        return False
    kinds = (PurePosixPath(value), PureWindowsPath(value))
    return value.startswith("~/") or any(k.is_absolute() and len(k.parts) > 2 for k in kinds)
