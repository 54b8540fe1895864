"""The language of a text: by script first, then by n-grams of letters (library: lingua).

In: a text and the language that it should be in. Out: the language or script that it is in where
that is another. Called by the filter of rows and by the scores of answers.

Measured against langdetect 1.0.9 on 2026-11-27, on single sentences of 20 letters and more, which
are harder than answers of forty words (there neither makes a mistake on the 304 shipped ones):

==============================================  ==========  =====
.                                               langdetect  this
==============================================  ==========  =====
sentences of shipped answers dropped, of 1 429  1           0
English in a manner of its own dropped, of 11   3           0
short sentences of 19 other languages kept      0 of 84     4
two or more such sentences together kept        0 of 19     0
milliseconds an answer, both cores busy         2.3         1.2
seconds until the first answer, the same        1.5         0.4
megabytes                                       113         25
==============================================  ==========  =====

The manners are a pirate's, a knight's, Yoda's, Scots, patois, a chat's: a persona may speak so, and
a filter that takes it for Dutch would leave nothing to review. All of lingua's 75 languages would
take 1 056 MB and 9 s. Its trigrams alone are enough for most texts; the first that they doubt loads
the rest: 300 MB and some seconds, once.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from workbench.language.packs import Pack, known_packs, load_pack
from workbench.persona import Language

if TYPE_CHECKING:
    from lingua import LanguageDetector

FEWEST_LETTERS = 20
"""Letters of a text below which its language is not asked."""
CLEAR = 0.5
"""Probability of the persona's language, by trigrams alone, from which no more is asked."""
SURE = 0.999999
"""Probability of the persona's language in a sample of a text from which the rest is not read. Of
1 500 texts mixed of English and eight other languages, in parts of all sizes, none came out other
than whole; at 0.99 it were 5 of 4 000."""
_SAMPLED = 40
"""Characters of each piece of the sample; two such pieces are passed over after it."""
_FEWEST_SAMPLED = 160
"""Characters of a text below which it is read whole."""
LEAST = 0.1
"""Probability of the persona's language, by all n-grams, below which a text is in another."""
_CANDIDATES = (
    *("GERMAN", "FRENCH", "SPANISH", "ITALIAN", "PORTUGUESE", "DUTCH"),
    *("SWEDISH", "POLISH", "TURKISH", "ROMANIAN", "INDONESIAN", "VIETNAMESE", "TAGALOG"),
)
"""One or two of each family that is written in Latin letters, beside the packs' own languages; the
others are known by script."""


@lru_cache(maxsize=4096)
def foreign_language(text: str, language: Language) -> str:
    """Return the language of ``text`` where it is not ``language``, else an empty string.

    Returns:
        The code of the likeliest language as in ISO 639-1; empty also where nothing can be told.
    """
    own = load_pack(language).lingua
    if not own or _scripts(text).total() < FEWEST_LETTERS or beyond_doubt(text, own):
        return ""
    for thorough, enough in ((False, CLEAR), (True, LEAST)):
        ranked = _detector(thorough).compute_language_confidence_values(text)
        likeliest, probability = ranked[0].language, ranked[0].value
        if not probability or {one.language.name: one.value for one in ranked}[own] >= enough:
            return ""
    return likeliest.iso_code_639_1.name.lower()


def beyond_doubt(text: str, own: str) -> bool:
    """Return whether a third of a long text, spread over all of it, leaves no doubt.

    That takes a third of the time, and a part in another language as long as a paragraph is met.
    ``own`` is lingua's name of the language.
    """
    if len(text) < _FEWEST_SAMPLED:
        return False
    import lingua

    sample = " ".join(text[at : at + _SAMPLED] for at in range(0, len(text), 3 * _SAMPLED))
    language = getattr(lingua.Language, own)
    return _detector(thorough=False).compute_language_confidence(sample, language) >= SURE


def language_of(texts: Iterable[str]) -> Language:
    """Return the language that most of the texts are written in, by script; else the default."""
    written: Counter[Language] = Counter()
    packs = known_packs()
    for text in texts:
        scripts = _scripts(text)
        for language, pack in packs.items():
            written[language] += _is_in(scripts, pack) and scripts.total() > 0
    return max(packs, key=lambda language: written[language])


@cache
def _detector(thorough: bool) -> LanguageDetector:
    import lingua

    names = {*_CANDIDATES, *(pack.lingua for pack in known_packs().values())}
    # A name that lingua does not know is told to whoever speaks that language.
    known = [one for one in lingua.Language.all() if one.name in names]
    builder = lingua.LanguageDetectorBuilder.from_languages(
        *sorted(known, key=lambda one: one.name)
    )
    return (builder if thorough else builder.with_low_accuracy_mode()).build()


def _is_in(scripts: Counter[str], pack: Pack) -> bool:
    """Return whether enough letters of a text are a language's."""
    return sum(scripts[own] for own in pack.scripts) >= pack.least * scripts.total()


@lru_cache(maxsize=8)  # an answer is looked at by its script, then by its n-grams
def _scripts(text: str) -> Counter[str]:
    """Return script → its letters in a text."""
    scripts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if character.isalpha():
            scripts[_script(character)] += count
    return scripts


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0]


def foreign_script(text: str, language: Language, *, least: int = FEWEST_LETTERS) -> str:
    """Return the script that most of a text is in, where the language is not written in it.

    Korean text may hold many Latin words; next to no Hangul in it is another language. Of fewer
    than ``least`` letters nothing is said.
    """
    scripts = _scripts(text)
    if scripts.total() < least:
        return ""
    if _is_in(scripts, load_pack(language)):
        return ""
    return scripts.most_common(1)[0][0].capitalize()
