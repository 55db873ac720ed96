from __future__ import annotations

import logging

import torch

from etude.data.tokens import TokenCounter

IDS = torch.tensor([[5, 6, 0], [7, 0, 0]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


def test_all_tokens():
    assert TokenCounter("input_ids", with_padding=True, padding_id=0).count({"input_ids": IDS}) == 6


def test_tokens_of_the_attention_mask():
    batch = {"input_ids": IDS, "attention_mask": MASK}
    assert TokenCounter("input_ids", with_padding=False, padding_id=None).count(batch) == 3


def test_tokens_that_are_not_padding():
    assert TokenCounter("input_ids", with_padding=False, padding_id=0).count({"input_ids": IDS}) == 3


def test_what_cannot_be_told_is_said_once(caplog):
    counter = TokenCounter("input_ids", with_padding=False, padding_id=None)
    with caplog.at_level(logging.WARNING):
        assert [counter.count({"input_ids": IDS}) for _ in range(3)] == [6, 6, 6]
    assert caplog.text.count("Padding cannot be told") == 1


def test_a_missing_main_input_is_said_once(caplog):
    counter = TokenCounter("pixel_values", with_padding=True, padding_id=None)
    with caplog.at_level(logging.WARNING):
        assert [counter.count({"input_ids": IDS}) for _ in range(2)] == [0, 0]
    assert caplog.text.count("main_input_name") == 1
