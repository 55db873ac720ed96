"""Is it noticed what a loss does with the number of items, and is each micro-batch weighed right?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etude.core.world import World
from etude.loops.accumulate import Accumulation, WatchedCount
from etude.strategies.base import Strategy
from tests import helpers
from tests.properties import quick

CPU = torch.device("cpu")
TOTAL = torch.tensor(6.0)

COMPUTING: dict[str, Callable[[Any], Any]] = {
    "division": lambda n: TOTAL / n,
    "division by a float": lambda n: TOTAL / n.float(),
    "division in place": lambda n: torch.ones(1).div_(n),
    "torch.div": lambda n: torch.div(TOTAL, n),
    "by keyword": lambda n: torch.div(TOTAL, other=n),
    "product with the inverse": lambda n: TOTAL * n.reciprocal(),
    "power": lambda n: TOTAL * n.double() ** -1,
    "moved, then divided": lambda n: TOTAL / n.to("cpu").to(torch.float64).clone().detach(),
    "item": lambda n: TOTAL / n.item(),
    "int": lambda n: TOTAL / int(n),
    "float": lambda n: TOTAL / float(n),
    "tolist": lambda n: TOTAL / n.tolist(),
    "numpy": lambda n: TOTAL / n.numpy().item(),
    "comparison": lambda n: n > 0,
    "torch.where": lambda n: TOTAL / torch.where(n > 1, n, 1),
    "clamp": lambda n: TOTAL / n.clamp(min=1),
    "maximum": lambda n: TOTAL / torch.maximum(n, torch.tensor(1)),
    "stack": lambda n: TOTAL / torch.stack([n, torch.tensor(1)]).max(),
    "cat": lambda n: TOTAL / torch.cat([n.reshape(1)]).sum(),
}
LOOKING: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda n: None,
    "moving": lambda n: n.to("cpu").long().clone(),
    "repr": repr,
    "str": str,
    "formatting": lambda n: f"{n}",
    "shape": lambda n: (n.shape, n.dim(), n.ndim, n.size()),
    "number of elements": lambda n: n.numel(),
    "kind": lambda n: (n.dtype, n.device, n.is_floating_point(), torch.is_tensor(n)),
    "kind by function": torch.is_floating_point,
    "identity": lambda n: n is not None,
}


def watched(number: int = 3) -> WatchedCount:
    return WatchedCount.watch(torch.tensor(number))


@pytest.mark.parametrize("way", COMPUTING)
def test_computing_with_the_number_is_noticed(way: str) -> None:
    count = watched()
    COMPUTING[way](count)
    assert count.used == [True]


@pytest.mark.parametrize("way", LOOKING)
def test_looking_at_the_number_is_not_computing(way: str) -> None:
    count = watched()
    LOOKING[way](count)
    assert count.used == [False]


@pytest.mark.parametrize("way", [way for way in COMPUTING if "comparison" not in way])
def test_watching_changes_no_result(way: str) -> None:
    result = COMPUTING[way](watched())
    assert torch.equal(torch.as_tensor(result), torch.as_tensor(COMPUTING[way](torch.tensor(3))))


def test_results_are_plain_tensors() -> None:
    assert type(TOTAL / watched()) is torch.Tensor
    assert type(watched().to("cpu")) is WatchedCount


def test_counts_are_watched_each_for_itself() -> None:
    one, two = watched(), watched()
    TOTAL / one
    assert (one.used, two.used) == ([True], [False])


def bert(task: str) -> Any:
    import transformers

    config = helpers.bert_classifier().config
    config.is_decoder = task == "BertLMHeadModel"
    return getattr(transformers, task)(config)


def run_loss(model: Any, count: Any) -> torch.Tensor:
    ids = torch.arange(3, 9).reshape(2, 3)
    one_label = "Sequence" in type(model).__name__
    labels = torch.tensor([0, 1]) if one_label else ids % helpers.NUM_CLASSES
    return model.eval()(input_ids=ids, labels=labels, num_items_in_batch=count).loss


REAL = [
    ("gpt2", True),
    ("BertLMHeadModel", True),
    ("BertForMaskedLM", False),
    ("BertForSequenceClassification", False),
]


@pytest.mark.parametrize(("task", "divides"), REAL)
def test_losses_of_real_models_show_what_they_do(task: str, divides: bool) -> None:
    model = helpers.gpt2_model() if task == "gpt2" else bert(task)
    count = watched()
    with torch.no_grad():
        loss = run_loss(model, count)
        assert run_loss(model, torch.tensor(3)).item() == loss.item()
        doubled = run_loss(model, torch.tensor(6)).item()
    assert type(loss) is torch.Tensor
    assert count.used == [divides]
    assert (doubled != loss.item()) is divides


def test_a_loss_on_the_watched_number_has_a_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    (weight.sum() / watched(4)).backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.25, 0.25]


class Several(Strategy):
    """Every process has what this one has."""

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor * self.world.size


def accumulation(size: int = 1, across: bool = True, shifted: bool = False) -> Accumulation:
    strategy = Strategy(World(), CPU) if size == 1 else Several(World(0, 0, size), CPU)
    return Accumulation(strategy, ["labels"], shifted, across)


def batch_of(count: int, ignored: int = 1) -> dict[str, torch.Tensor]:
    return {"labels": torch.tensor([1] * count + [-100] * ignored)}


def weighed(weights: Accumulation, batches: list[Any], losses: list[float], spare: int = 0) -> list[float]:
    weights.begin(batches, spare)
    found = []
    for loss in losses:
        found.append(weights.weigh(torch.tensor(loss, dtype=torch.float64), divided=False).item())
        weights.advance()
    return found


@quick
@given(
    st.lists(st.tuples(st.integers(0, 9), st.floats(0.1, 10)), min_size=1, max_size=5),
    st.integers(1, 4),
    st.booleans(),
)
def test_means_of_micro_batches_become_the_mean_of_all_items(
    parts: list[tuple[int, float]], size: int, across: bool
) -> None:
    batches = [batch_of(count) for count, _ in parts]
    losses = [mean if count else math.nan for count, mean in parts]
    total = sum(count for count, _ in parts)
    found = sum(weighed(accumulation(size, across), batches, losses))
    if total == 0 and len(parts) == 1 and (size == 1 or not across):
        assert found == 0 or math.isnan(found)
        return
    expected = sum(count * mean for count, mean in parts) / max(1, total)
    assert found == pytest.approx(expected)


def test_a_single_micro_batch_is_left_to_the_bit() -> None:
    loss = torch.tensor(1 / 3)
    weights = accumulation()
    weights.begin([batch_of(3)])
    assert weights.weigh(loss, divided=False) is loss


def test_outside_of_an_update_a_loss_is_left_alone() -> None:
    loss = torch.tensor(0.7)
    assert accumulation().weigh(loss, divided=False) is loss


def test_a_divided_loss_is_not_divided_again() -> None:
    loss = torch.tensor(0.7)
    weights = accumulation()
    weights.begin([batch_of(3), batch_of(5)])
    assert weights.weigh(loss, divided=True) is loss


def test_spare_micro_batches_count_for_nothing_even_if_not_finite() -> None:
    batches = [batch_of(2), batch_of(6), batch_of(9)]
    assert weighed(accumulation(), batches, [4.0, 8.0, math.nan], spare=1) == [1.0, 6.0, 0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_loss_spoils_the_gradient_of_its_process(bad: float) -> None:
    weight = torch.ones((), requires_grad=True)
    weights = accumulation(size=2)
    weights.begin([batch_of(2), batch_of(2)])
    weights.weigh(weight + bad, divided=False).backward()
    assert weight.grad is not None
    assert not weight.grad.isfinite()


@pytest.mark.parametrize(("across", "expected"), [(True, 15), (False, 5)])
def test_items_are_counted_over_processes_where_asked(across: bool, expected: int) -> None:
    count = accumulation(3, across).count([batch_of(2), batch_of(3)], CPU)
    assert count is not None
    assert (count.item(), count.dtype, count.ndim) == (expected, torch.int64, 0)


def test_what_cannot_be_counted_has_no_count() -> None:
    assert accumulation().count([batch_of(2), {"x": torch.ones(2)}], CPU) is None
    assert accumulation().count([], CPU) is None


def test_the_first_label_of_a_shifted_row_does_not_count() -> None:
    rows = {"labels": torch.ones(2, 5, dtype=torch.long)}
    assert accumulation(shifted=True).count([rows], CPU) == torch.tensor(8)


def test_the_number_is_watched_until_it_is_known_what_becomes_of_it() -> None:
    for computes in (True, False):
        weights = accumulation()
        count = weights.watch(torch.tensor(3))
        assert isinstance(count, WatchedCount)
        if computes:
            TOTAL / count
        assert weights.is_divided(count) is computes
        later = weights.watch(torch.tensor(5))
        assert type(later) is torch.Tensor
        assert weights.is_divided(later) is computes


def test_without_a_number_nothing_is_divided() -> None:
    weights = accumulation()
    assert weights.watch(None) is None
    assert not weights.is_divided(None)
