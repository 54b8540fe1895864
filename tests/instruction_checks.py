"""The checks of ``datasets/instructions``: each a few lines, for whoever scores the answers.

``datasets/instructions/README.md`` says in words what each kind asks for.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Mapping[str, Any]
YES = {"yes", "네", "예"}
NO = {"no", "아니요", "아니오"}
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
_EDGES = " \t\n.!?,\"'“”‘’*`"


def words(text: str) -> list[str]:
    return [part for part in text.split() if any(c.isalnum() for c in part)]


def sentences(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?…])[\"'”’)]*\s+|\n+", text.strip())
    return [part for part in parts if any(c.isalnum() for c in part)]


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def count(text: str, phrase: str) -> int:
    """Count a phrase, case aside; no Latin letter or digit touches an edge that is one."""
    left = r"(?<![A-Za-z0-9])" if re.match(r"[A-Za-z0-9]", phrase) else ""
    right = r"(?![A-Za-z0-9])" if re.search(r"[A-Za-z0-9]$", phrase) else ""
    return len(re.findall(left + re.escape(phrase) + right, text.replace("’", "'"), re.I))


def bare(text: str) -> str:
    return text.strip(_EDGES).casefold()


def share(text: str, pattern: str) -> float:
    letters = [c for c in text if c.isalpha()]
    return sum(bool(re.match(pattern, c)) for c in letters) / max(len(letters), 1)


def parsed(text: str) -> Any:
    """Return the JSON of an answer, a code fence around it aside; None where it is none."""
    inner = re.sub(r"^```\w*\n|\n?```$", "", text.strip())
    try:
        return json.loads(inner)
    except ValueError:
        return None


def _between(value: float, check: Check) -> bool:
    return float(check.get("min", 0)) <= value <= float(check.get("max", "inf"))


def _number(text: str, check: Check) -> bool:
    return bool(re.fullmatch(r"[0-9]+", text.strip())) and _between(int(text.strip()), check)


def _ascending(text: str, phrases: list[str]) -> bool:
    places = [text.casefold().find(phrase.casefold()) for phrase in phrases]
    return -1 not in places and places == sorted(places)


def _table(text: str, check: Check) -> bool:
    rows = [line.strip("|").split("|") for line in lines(text) if line.startswith("|")]
    data = [row for row in rows if any(cell.strip(" -:") for cell in row)]
    return len(data) == check["rows"] + 1 and all(len(row) == check["columns"] for row in rows)


def _numbered(text: str, check: Check) -> bool:
    numbers = [int(n) for n in re.findall(r"^\s*(\d+)[.)]\s", text, re.M)]
    return numbers == list(range(1, check["count"] + 1))


def _parts(text: str, check: Check) -> bool:
    parts = text.split(check["text"])
    return len(parts) == check["parts"] and all(part.strip() for part in parts)


def _language(text: str, check: Check) -> bool:
    pattern, least = {"en": ("[A-Za-z]", 0.95), "ko": ("[가-힣ㄱ-ㅣ]", 0.8)}[check["language"]]
    return share(text, pattern) >= least


CHECKS: dict[str, Callable[[str, Check], bool]] = {
    "max_words": lambda text, check: 0 < len(words(text)) <= check["max"],
    "min_words": lambda text, check: len(words(text)) >= check["min"],
    "exact_words": lambda text, check: len(words(text)) == check["count"],
    "max_characters": lambda text, check: 0 < len("".join(text.split())) <= check["max"],
    "min_characters": lambda text, check: len("".join(text.split())) >= check["min"],
    "exact_sentences": lambda text, check: len(sentences(text)) == check["count"],
    "exact_lines": lambda text, check: len(lines(text)) == check["count"],
    "exact_paragraphs": lambda text, check: (
        len([part for part in re.split(r"\n\s*\n", text) if part.strip()]) == check["count"]
    ),
    "exact_bullets": lambda text, check: (
        len([line for line in lines(text) if re.match(r"[-*•]\s", line)]) == check["count"]
    ),
    "numbered_list": _numbered,
    "each_line_starts_with": lambda text, check: all(
        line.casefold().startswith(check["text"].casefold()) for line in lines(text)
    ),
    "each_line_max_words": lambda text, check: all(
        len(words(line)) <= check["max"] for line in lines(text)
    ),
    "acrostic": lambda text, check: (
        [line[0].casefold() for line in lines(text)]
        == [letter.casefold() for letter in check["letters"]]
    ),
    "alphabetical_lines": lambda text, _: (
        [line.casefold() for line in lines(text)] == sorted(line.casefold() for line in lines(text))
    ),
    "starts_with": lambda text, check: text.strip().casefold().startswith(check["text"].casefold()),
    "ends_with": lambda text, check: text.strip().casefold().endswith(check["text"].casefold()),
    "each_sentence_ends_with": lambda text, check: all(
        part.rstrip(_EDGES + "…").endswith(tuple(check["texts"])) for part in sentences(text)
    ),
    "contains_all": lambda text, check: all(count(text, phrase) for phrase in check["phrases"]),
    "contains_none": lambda text, check: (
        bool(text.strip()) and not any(count(text, phrase) for phrase in check["phrases"])
    ),
    "exact_count_of_word": lambda text, check: count(text, check["word"]) == check["count"],
    "order_of_words": lambda text, check: _ascending(text, check["words"]),
    "no_letter": lambda text, check: (
        bool(text.strip()) and check["letter"].casefold() not in text.casefold()
    ),
    "json_keys": lambda text, check: (
        isinstance(parsed(text), dict) and set(parsed(text)) == set(check["keys"])
    ),
    "json_list": lambda text, check: (
        isinstance(parsed(text), list) and len(parsed(text)) == check["count"]
    ),
    "all_lowercase": lambda text, _: text.islower(),
    "all_uppercase": lambda text, _: text.isupper(),
    "no_commas": lambda text, _: bool(text.strip()) and "," not in text,
    "no_digits": lambda text, _: bool(text.strip()) and not re.search(r"\d", text),
    "digits_only": _number,
    "one_word_choice": lambda text, check: (
        bare(text) in {choice.casefold() for choice in check["choices"]}
    ),
    "yes_no": lambda text, _: bare(text) in YES | NO,
    "language": _language,
    "no_latin": lambda text, _: bool(text.strip()) and not re.search(r"[A-Za-z]", text),
    "postscript": lambda text, check: (
        len(lines(text)) > 1 and lines(text)[-1].startswith(check["text"])
    ),
    "title_in_brackets": lambda text, check: (
        len(lines(text)) > 1
        and lines(text)[0].startswith(check["open"])
        and lines(text)[0].endswith(check["close"])
    ),
    "quoted": lambda text, _: bool(re.fullmatch(r"[\"“][^\"“”]+[\"”]", text.strip())),
    "separator": _parts,
    "table_columns": _table,
    "placeholders": lambda text, check: len(re.findall(r"\[[^\[\]\n]+\]", text)) == check["count"],
    "exact_questions": lambda text, check: text.count("?") == check["count"],
    "exact_emoji": lambda text, check: len(_EMOJI.findall(text)) == check["count"],
}
"""Kind of check → whether an answer passes; ``datasets/instructions`` uses no other."""


def failed(answer: str, checks: list[Check]) -> list[str]:
    """Return the kinds of the checks that an answer does not pass."""
    return [check["kind"] for check in checks if not CHECKS[check["kind"]](answer, check)]
