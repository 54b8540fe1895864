"""Real parts at their smallest, and one Argilla server for all tests that need one."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from curation.argilla.server import Server, ServerHome, start, stop
from curation.argilla.server_home import HOME_VARIABLE
from tests.commands import Commands, Workspace
from tests.curation.review_page import FLAGS
from tests.curation.review_team import REVIEWERS
from tests.loop_round import Loop, looped
from tests.small_round import SmallRound
from tests.template_families import Families
from workbench.inference.client import LEARNT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Inherited where tests run in the background; the commands that they interrupt would, too.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: threads of two processes would only wait for one another.
    workers = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


SERVERS = {"argilla_server", "source_server"}
"""Fixtures that start a server."""
LONGEST = ("loop", "test_docs.py", "argilla", "test_grpo_learns.py", "test_generate_killed.py")
"""Groups of tests that take longest, in the order in which they begin: the processes that share
the tests are through at about the same time only if no long group comes last."""
_many_modules = 0
"""Modules that were imported when the collector was last told to pass over them."""


def pytest_configure(config: pytest.Config) -> None:
    """Let the groups begin in our order, where pytest-xdist would sort them by their size."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_runtest_teardown() -> None:
    """Let the collector pass over what was imported: some million objects that stay for good.

    Each stage ends with a collection, which walks through all of them, half a second each time.
    """
    global _many_modules
    if len(sys.modules) - _many_modules > 100:
        gc.collect()
        gc.freeze()
        _many_modules = len(sys.modules)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Mark every test that needs a server as slow, however it comes by it.

    Where tests run in several processes, those of one file stay together for their fixtures, and
    those that need the server stay with the one that has it.
    """
    for item in items:
        if _group(item) == "argilla":
            item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    if getattr(config.option, "loadgroup", False):
        slow = {_group(item) for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: _rank(_group(item), slow))
    yield  # a wrapper, since pytest-xdist reads the groups before any other hook of this name
    if getattr(config.option, "loadgroup", False):
        loose = [item.nodeid for item in items if "@" not in item.nodeid.rpartition("]")[2]]
        if loose:
            raise pytest.UsageError(f"pytest-xdist takes no notice of the group of {loose[0]}")


def _group(item: pytest.Item) -> str:
    fixtures = getattr(item, "fixturenames", ())
    if SERVERS.intersection(fixtures):
        return "argilla"
    return "loop" if "loop" in fixtures else item.path.name


def _rank(group: str, slow: set[str]) -> int:
    """Return when a group begins: the longest, then those with slow tests, then the others."""
    return LONGEST.index(group) if group in LONGEST else len(LONGEST) + (group not in slow)


@pytest.fixture(scope="session")
def argilla_home(tmp_path_factory: pytest.TempPathFactory) -> ServerHome:
    return ServerHome(tmp_path_factory.mktemp("argilla") / "home")


@pytest.fixture(scope="session")
def argilla_server(argilla_home: ServerHome) -> Iterator[Server]:
    """The server, with the accounts reviewer-a and reviewer-b."""
    server = start(argilla_home, ["reviewer-a", "reviewer-b"])
    yield server
    stop(argilla_home)


@pytest.fixture
def reviewed_server(
    argilla_home: ServerHome, argilla_server: Server, monkeypatch: pytest.MonkeyPatch
) -> Server:
    """The server as commands find it, with the accounts of the team of the tests."""
    monkeypatch.setenv(HOME_VARIABLE, str(argilla_home.path))
    return start(argilla_home, REVIEWERS, reuse=True)


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    warnings.warn("NO BROWSER: pages, report and review in a browser are NOT tested", stacklevel=1)
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def repo() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _nothing_learnt() -> None:
    """Forget what other tests' servers did not take: their ports may be used again."""
    LEARNT.clear()


@pytest.fixture
def workspace(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Rounds whose earlier stages are made without a model, for what runs from Python."""
    monkeypatch.chdir(repo)
    return Workspace(tmp_path / "runs", repo)


@pytest.fixture
def commands(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Commands on such rounds."""
    return Commands(workspace.runs, workspace.repo, capsys)


@pytest.fixture
def small_round(tmp_path: Path, tiny_model: Path) -> SmallRound:
    """A round of a small persona whose teacher is a scripted server."""
    return SmallRound(tmp_path, tiny_model)


@pytest.fixture(scope="session")
def loop(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A finished first round, killed on its way."""
    yield from looped(repo, tmp_path_factory.mktemp("loop"))


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Families:
    """Random bases with the templates of the published families."""
    return Families(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of some 100 000 weights, saved as a folder; made in about a second."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    specials = ["<|im_start|>", "<|im_end|>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        ["champ sets your chair and walks right now", "the trainer answers the question today"],
        vocab_size=400,
        special_tokens=specials,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        padding_side="left",
    )
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
