"""The metadata of a card: what a hub reads, with the reference's keys."""

from __future__ import annotations

import itertools
from typing import Any

from etude.hub.facts import Facts

# Metrics that hubs know, and names of tasks for people.
_METRICS = ("accuracy", "bleu", "f1", "matthews_correlation", "pearsonr", "precision", "recall", "rouge", "sacrebleu",
            "spearmanr", "wer")  # fmt: skip
_TASK_NAMES = {
    "fill-mask": "Masked Language Modeling",
    "text-generation": "Causal Language Modeling",
    **{
        task: task.replace("-", " ").title()
        for task in (
            *("image-classification", "image-segmentation", "multiple-choice", "object-detection"),
            *(
                "question-answering",
                "table-question-answering",
                "text-classification",
                "token-classification",
            ),
            *("zero-shot-classification", "automatic-speech-recognition", "audio-classification"),
        )
    },
}


def metadata(card: Facts) -> dict[str, Any]:
    """Library, language, license, base model, tags, data sets, metrics and results; what is not known is left out."""
    metrics = known_metrics(card.results)
    entries = {
        "library_name": card.library_name,
        "language": card.language,
        "license": card.license,
        "base_model": card.finetuned_from,
        "tags": card.tags,
        "datasets": card.dataset_tags,
        "metrics": list(metrics),
    }
    found = {name: value for name, value in entries.items() if value}
    return {**found, "model-index": [{"name": card.model_name, "results": results(card, metrics)}]}


def known_metrics(values: dict[str, Any]) -> dict[str, str]:
    """Identifiers of the metrics that hubs know, with the names that they have here."""
    found: dict[str, str] = {}
    for name in values:
        identifier = name.lower().replace(" ", "_")
        identifier = "rouge" if identifier == "rouge1" else identifier
        if identifier in _METRICS:
            found[identifier] = name
    return found


def results(card: Facts, metrics: dict[str, str]) -> list[dict[str, Any]]:
    """One entry for each task and data set; a hub takes only those that have both, and metrics."""
    if not metrics:
        return []
    names = dict(zip(card.dataset_tags, card.dataset, strict=False))
    arguments = dict(zip(card.dataset_tags, card.dataset_args, strict=False))
    origins = dict(zip(card.dataset_tags, card.dataset_metadata, strict=False))
    tasks = [task for task in card.tasks if task in _TASK_NAMES]
    values = [
        {"name": name, "type": identifier, "value": card.results[name]}
        for identifier, name in metrics.items()
    ]
    return [
        {
            "task": {"name": _TASK_NAMES[task], "type": task},
            "dataset": {
                "name": names[data],
                "type": data,
                **origins.get(data, {}),
                **({"args": arguments[data]} if arguments.get(data) is not None else {}),
            },
            "metrics": values,
        }
        for task, data in itertools.product(tasks, names)
    ]
