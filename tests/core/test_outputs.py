"""Can results be unpacked, indexed and read by name, as in the reference?"""

from __future__ import annotations

from typing import Any

import pytest

from tests import helpers


@pytest.mark.parametrize("extras", [{}, {"inputs": "i"}, {"losses": "l"}, {"inputs": "i", "losses": "l"}])
def test_predictions_unpack_as_in_the_reference(extras: dict[str, Any]) -> None:
    unpacked = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            prediction = lib.EvalPrediction(predictions="p", label_ids="y", **extras)
        unpacked.append([*prediction])
        assert [prediction[i] for i in range(len(unpacked[-1]))] == unpacked[-1]
        with pytest.raises(IndexError):
            prediction[len(unpacked[-1])]
    assert unpacked[0] == unpacked[1] == ["p", "y", *extras.values()]


@pytest.mark.parametrize("name", ["TrainOutput", "PredictionOutput"])
def test_results_have_the_references_fields(name: str) -> None:
    from transformers import trainer_utils

    import etude

    assert getattr(etude, name)._fields == getattr(trainer_utils, name)._fields
