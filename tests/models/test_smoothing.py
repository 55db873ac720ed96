from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.trainer_pt_utils import LabelSmoother as ReferenceSmoother

from etude.errors import ModelOutputError
from etude.models.smoothing import LabelSmoother
from tests.properties import quick


def sample(rows: int, length: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (rows, length), generator=generator)
    labels[torch.rand(rows, length, generator=generator) < 0.3] = -100
    labels[:, -1] = 0  # at least one that counts, also after the shift
    return logits, labels


@quick
@given(
    rows=st.integers(1, 4),
    length=st.integers(2, 6),
    classes=st.integers(2, 7),
    seed=st.integers(0, 1000),
    epsilon=st.floats(0.0, 0.9),
    shift=st.booleans(),
    items=st.sampled_from([None, 3, torch.tensor(5)]),
)
def test_it_is_the_references_loss(rows, length, classes, seed, epsilon, shift, items):
    logits, labels = sample(rows, length, classes, seed)
    ours = LabelSmoother(epsilon)({"logits": logits}, labels, shift, num_items_in_batch=items)
    theirs = ReferenceSmoother(epsilon)({"logits": logits}, labels, shift, num_items_in_batch=items)
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-6, atol=1e-9)


def test_no_smoothing_is_cross_entropy():
    logits, labels = sample(3, 4, 5, seed=1)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(LabelSmoother(0.0)((logits,), labels), expected)


def test_labels_and_logits_are_left_as_they_were():
    logits, labels = sample(2, 3, 4, seed=2)
    copies = logits.clone(), labels.clone()
    LabelSmoother(0.1)({"logits": logits}, labels, shift_labels=True)
    assert torch.equal(logits, copies[0])
    assert torch.equal(labels, copies[1])


def test_without_logits_it_says_what_the_model_returned():
    with pytest.raises(ModelOutputError, match=r"logits.*hidden"):
        LabelSmoother()({"hidden": torch.zeros(1)}, torch.zeros(1, dtype=torch.long))
