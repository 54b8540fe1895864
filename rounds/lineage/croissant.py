"""A round's rows as Croissant 1.1 with the vocabulary of responsible AI.

In: the answers of :mod:`rounds.lineage.documents` and the files beside. Out: JSON-LD that
``mlcroissant`` validates and loads records through (https://docs.mlcommons.org/croissant).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rounds.artifacts import Records
from rounds.context import RoundContext
from workbench.language import DEFAULT
from workbench.records import Example, Preference
from workbench.store import file_hash

VERSION = "http://mlcommons.org/croissant/1.1"
_CONTEXT: dict[str, Any] = {
    "@language": DEFAULT,
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_RAI = {
    "dataCollection": ("sources", "teacher", "models"),
    "dataCollectionMissingData": ("gaps",),
    "dataPreprocessingProtocol": ("filters",),
    "dataAnnotationProtocol": ("reviewers", "decisions"),
    "dataAnnotationAnalysis": ("agreement",),
    "personalSensitiveInformation": ("personal_data",),
    "dataUseCases": ("uses",),
    "dataLimitations": ("gaps", "splitting"),
    "dataReleaseMaintenancePlan": ("withdrawal", "contact"),
}
"""Property of the RAI vocabulary → the answers that it holds."""
_LICENCES = {"apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0"}
_FIELDS: dict[type[Any], tuple[str, ...]] = {
    Example: ("id", "prompt", "answer", "topic", "origin"),
    Preference: ("id", "prompt", "chosen", "rejected", "topic", "origin"),
}
"""Record → the columns that a reader gets; of the prompt, what each turn says."""


def croissant(
    context: RoundContext,
    answers: Mapping[str, str],
    files: Sequence[Records[Any]],
    url: str = "",
) -> dict[str, Any]:
    """Return the JSON-LD of a round's rows.

    Args:
        context: The round.
        answers: Name → what the datasheet says, empty where nobody knows.
        files: The files of rows, which lie beside it by their names.
        url: Where the rows are published, if they are.
    """
    one, persona = context.round, context.persona
    manifest = one.manifest("split")
    licence = answers["license"]
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [VERSION, "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"{persona.id}-{one.name}",
        "description": answers["purpose"],
        "inLanguage": persona.language,
        "license": _LICENCES.get(licence, licence),
        "version": f"{persona.version}.{one.number}.0",
        "datePublished": manifest.started[:10] if manifest else "",
        "url": url,
        "creator": {"@type": "sc:Organization", "name": answers["creator"]},
        "citeAs": f"{answers['creator']}: {persona.name}, {one.name}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": artifact.name,
                "name": artifact.name,
                "contentUrl": artifact.name,
                "encodingFormat": "application/jsonlines",
                "sha256": file_hash(one.path(artifact)),
            }
            for artifact in files
        ],
        "recordSet": list(map(_record_set, files)),
    }
    for name, parts in _RAI.items():
        if text := "\n".join(answers[part] for part in parts if answers[part]):
            document[f"rai:{name}"] = text
    return {name: value for name, value in document.items() if value}


def _record_set(artifact: Records[Any]) -> dict[str, Any]:
    stem = artifact.name.removesuffix(".jsonl")
    return {
        "@type": "cr:RecordSet",
        "@id": stem,
        "name": stem,
        "key": {"@id": f"{stem}/id"},
        "field": [_field(artifact.name, stem, column) for column in _FIELDS[artifact.model]],
    }


def _field(file: str, stem: str, column: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileObject": {"@id": file}, "extract": {"column": column}}
    turns = column == "prompt"
    if turns:
        source["transform"] = {"jsonPath": "content"}
    return {
        "@type": "cr:Field",
        "@id": f"{stem}/{column}",
        "name": column,
        "dataType": "sc:Text",
        **({"isArray": True, "arrayShape": "-1"} if turns else {}),
        "source": source,
    }
