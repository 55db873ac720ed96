"""Are batches out of Arrow's buffers those that the collators make of samples?"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import datasets
import pyarrow
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import SequentialSampler

import etude
from etude.core.world import World
from etude.data.arrow import BatchReader, BulkCollator, RowNumbers, are_same, in_bulk
from etude.data.collators.bulk import UnusualBatchError
from etude.data.loader import LoaderSettings, eval_loader, train_loader
from etude.data.samplers import EpochSampler
from tests import helpers
from tests.data.collators.tokenizers import bytes_only, wordpiece
from tests.properties import quick

LIBRARIES = (etude, transformers)
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
# "max_length" of a tokenizer that knows no length pads nothing
PADDING = ((True, None), ("longest", 4), ("max_length", 6), ("max_length", None))
SETTINGS = LoaderSettings()


class Decoder:
    """What a model does with labels."""

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        return labels.roll(1)


def draw_column(random: Random, values: list[Any]) -> pyarrow.ChunkedArray:
    """The values in a format, in pieces that begin anywhere, now and then with one missing."""
    kind = pyarrow.type_for_alias(random.choice(WHOLE))
    if isinstance(values[0], float):
        kind = random.choice((pyarrow.float32(), pyarrow.float64()))
    elif isinstance(values[0], list):
        fixed = [pyarrow.list_(kind, len(values[0]))] if len({len(row) for row in values}) == 1 else []
        kind = random.choice([pyarrow.list_(kind), pyarrow.large_list(kind), *fixed * 2])
    if random.random() < 0.05:
        values = [None if random.random() < 0.3 else value for value in values]
    cut = random.randint(0, len(values))
    pieces = [pyarrow.array(values[:1] * 2 + part, kind)[2:] for part in (values[:cut], values[cut:])]
    return pyarrow.chunked_array(pieces, kind)


def draw_table(random: Random) -> datasets.Dataset:
    """Tokenised texts, of any length or all of one, with some of the columns that there may be."""
    count, even = random.randint(1, 6), random.random() < 0.4
    lengths = [random.choice((1, 2, 3, 4, 5, 0 if random.random() < 0.1 else 3)) for _ in range(count)]
    lengths = [lengths[0]] * count if even else lengths
    columns: dict[str, list[Any]] = {}
    for name in ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask"):
        if random.random() < (0.95 if name == "input_ids" else 0.4):
            columns[name] = [[random.randint(0, 17) for _ in range(length)] for length in lengths]
    if random.random() < 0.4:
        columns["label"] = [random.randint(0, 3) for _ in lengths]
    elif random.random() < 0.3:
        columns["label"] = [random.choice((0.5, 1 / 3, 2.0)) for _ in lengths]
    if random.random() < 0.2:
        columns["label_ids"] = [[1] * (2 if random.random() < 0.9 else 1) for _ in lengths]
    if random.random() < 0.4:
        longer = random.choice((0, 0, 1))
        columns["labels"] = [[random.randint(0, 9) for _ in range(length + longer)] for length in lengths]
    if random.random() < 0.1:
        columns["input_ids" if random.random() < 0.5 else "weight"] = list(range(count))
    columns = columns or {"weight": [1.5] * count}
    names = random.sample(sorted(columns), len(columns))
    return datasets.Dataset(pyarrow.table({name: draw_column(random, columns[name]) for name in names}))


def rearranged(table: datasets.Dataset, random: Random) -> datasets.Dataset:
    """The table as users give it: shuffled, selected, put together."""
    count = len(table)
    ways: list[Callable[[], datasets.Dataset]] = [
        lambda: table,
        lambda: table.shuffle(seed=1),
        lambda: table.select(range(random.randrange(count), count)),
        lambda: table.select([random.randrange(count) for _ in range(4)]),
        lambda: datasets.concatenate_datasets([table, table.select([count - 1])]),
        lambda: datasets.concatenate_datasets([table.shuffle(seed=2), table]).select([count, 0]),
    ]
    return random.choice(ways)()


def draw_collator(random: Random) -> Any:
    """A known collator, of either library."""
    library: Any = random.choice(LIBRARIES)
    to = random.choice(("pt", "pt", "np"))
    if random.random() < 0.25:
        return random.choice((library.default_data_collator, library.DefaultDataCollator(return_tensors=to)))
    tokenizer = copy.copy(wordpiece(random.choice(("left", "right"))))
    if random.random() < 0.2:
        tokenizer.model_input_names = ["input_ids"]
    padding, length = random.choice(PADDING)
    names = ("DataCollatorWithPadding", "DataCollatorForTokenClassification", "DataCollatorForSeq2Seq")
    made = getattr(library, random.choice(names))(
        tokenizer,
        padding=padding,
        max_length=length,
        pad_to_multiple_of=random.choice((None, None, 4)),
        return_tensors=to,
    )
    if hasattr(made, "model") and random.random() < 0.5:
        made.model = Decoder()
    return made


def compare(table: datasets.Dataset, collator: Any, rows: list[int]) -> bool:
    """Whether the batch was made out of the buffers; it must then be the collator's."""
    try:
        batch = BatchReader(table, collator).batch(rows)
    except UnusualBatchError:
        return False
    expected = collator(table.__getitems__(rows))
    assert are_same(batch, expected), (batch, expected)
    return True


@quick
@given(st.integers(0, 2**32))
def test_batches_are_those_of_the_collator(seed: int) -> None:
    random = Random(seed)
    for _ in range(2):
        table, collator = rearranged(draw_table(random), random), draw_collator(random)
        compare(table, collator, [random.randrange(len(table)) for _ in range(random.randint(1, 5))])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("DataCollatorWithPadding", "label"),
        ("DataCollatorForTokenClassification", "labels"),
        ("DataCollatorForSeq2Seq", "labels"),
    ],
)
def test_usual_batches_need_no_samples(library: Any, name: str, labels: str) -> None:
    collator = getattr(library, name)(wordpiece())
    table = texts(labels)
    for rearrange in (lambda: table, lambda: table.shuffle(seed=1), lambda: table.select([4, 1, 2])):
        assert compare(rearrange(), collator, [0, 2, 1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_stacks_need_no_samples(library: Any) -> None:
    table = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3, 4]], "weight": [0.1, 2], "label": [1, 0]})
    assert compare(table, library.default_data_collator, [1, 0])
    assert compare(table, library.DefaultDataCollator(return_tensors="np"), [1, 0])


def texts(labels: str | None = "label", count: int = 10) -> datasets.Dataset:
    """Tokenised texts with labels."""
    ids = [list(range(5, 7 + i % 5)) for i in range(count)]
    columns: dict[str, Any] = {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}
    if labels is not None:
        columns[labels] = [i % 2 for i in range(count)] if labels == "label" else ids
    return datasets.Dataset.from_dict(columns)


class OwnDataset(datasets.Dataset):
    """A user's own."""


class OwnCollator(etude.DataCollatorWithPadding):
    """A user's own."""


def with_own_padding() -> Any:
    tokenizer = copy.copy(wordpiece())
    tokenizer.pad = tokenizer.pad
    return tokenizer


@pytest.mark.parametrize(
    ("table", "collator"),
    [
        (lambda: texts().with_format("torch"), None),
        (lambda: texts().with_format(None, columns=["input_ids"]), None),
        (lambda: texts().with_transform(lambda batch: batch), None),
        (lambda: OwnDataset(texts().data), None),
        (lambda: list(texts()), None),
        (lambda: datasets.Dataset.from_dict({"input_ids": [[1]], "text": ["a"]}), None),
        (lambda: datasets.Dataset.from_dict({"input_ids": [[1]], "x": [[0.5]]}), None),
        (lambda: datasets.Dataset.from_dict({"input_ids": [[1]], "x": [[[1]]]}), None),
        (lambda: datasets.Dataset.from_dict({"input_ids": [[1]], "label": [None]}), None),
        (texts, OwnCollator(wordpiece())),
        (texts, lambda rows: rows),
        (texts, etude.DataCollatorWithPadding(with_own_padding())),
        (texts, etude.DataCollatorWithPadding(wordpiece(), padding=False)),
        (texts, etude.DataCollatorWithPadding(wordpiece(), return_tensors="tf")),
        (texts, etude.DataCollatorForLanguageModeling(wordpiece())),
    ],
)
def test_everything_else_is_left_as_it_is(table: Any, collator: Any) -> None:
    collator = collator or etude.DataCollatorWithPadding(wordpiece())
    data = table()
    found = in_bulk(data, collator)
    assert found[0] is data
    assert found[1] is collator


@pytest.mark.parametrize(
    "columns", [{"label": [1, None, 2]}, {"token_type_ids": [[1, 1], [None, 1], [0, 1]]}]
)
def test_batches_with_missing_values_are_the_collators(columns: dict[str, Any]) -> None:
    table = datasets.Dataset.from_dict({"input_ids": [[5, 6]] * 3, **columns})
    rows, bulk = in_bulk(table, etude.DataCollatorWithPadding(wordpiece()))
    with pytest.raises(ValueError, match="tensor"):
        bulk(rows.__getitems__([0, 1]))


def test_errors_are_the_collators() -> None:
    table = texts()
    rows, bulk = in_bulk(table, etude.DataCollatorWithPadding(bytes_only()))
    with pytest.raises(ValueError, match="padding token"):
        bulk(rows.__getitems__([0, 1]))
    rows, bulk = in_bulk(table, etude.default_data_collator)
    with pytest.raises(etude.errors.DataError, match="input_ids"):
        bulk(rows.__getitems__([0, 1]))
    with pytest.raises(IndexError):
        bulk(rows.__getitems__([10]))


def test_options_may_change_meanwhile() -> None:
    table, collator = texts(), etude.DataCollatorWithPadding(copy.copy(wordpiece()))
    rows, bulk = in_bulk(table, collator)
    numbers = rows.__getitems__([0, 3])
    bulk(numbers)
    collator.tokenizer.padding_side = "left"
    collator.pad_to_multiple_of = 8
    assert bulk(numbers)["input_ids"].tolist() == [[0] * 6 + [5, 6], [0] * 3 + [5, 6, 7, 8, 9]]
    table.set_transform(lambda batch: {"input_ids": [[9]] * len(batch["input_ids"])})
    assert bulk(numbers)["input_ids"][:, -1].tolist() == [9, 9]


def test_a_collator_that_makes_something_else_is_asked_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows, bulk = in_bulk(texts(), etude.DataCollatorWithPadding(wordpiece()))
    monkeypatch.setattr(etude.DataCollatorWithPadding, "__call__", lambda self, rows: {"rows": len(rows)})
    with caplog.at_level(logging.INFO, "etude"):
        assert [bulk(rows.__getitems__([0, 1])) for _ in range(3)] == [{"rows": 2}] * 3
    assert caplog.text.count("sample by sample") == 1


def test_the_data_set_of_a_loader_is_still_that_data_set() -> None:
    table = texts()
    rows, bulk = in_bulk(table, etude.DataCollatorWithPadding(wordpiece()))
    assert isinstance(rows, RowNumbers)
    assert (len(rows), rows[3], rows.column_names) == (10, table[3], table.column_names)
    assert bulk([rows[1]])["input_ids"].tolist() == [[5, 6, 7]]


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_the_same_batches(workers: int) -> None:
    collator = etude.DataCollatorWithPadding(wordpiece())
    table = texts(count=23).shuffle(seed=4)
    options: Any = {"batch_size": 4, "seed": 3, "world": World(1, 1, 2), "settings": LoaderSettings(workers)}
    order = EpochSampler(table, 3)
    for data, make in ((order, train_loader), (SequentialSampler(table), eval_loader)):
        more = {"drop_last": False} if make is train_loader else {}
        found = make(table, data, collator, **options, **more)
        assert isinstance(found.collate_fn, BulkCollator)
        expected = make(table, data, lambda rows: collator(rows), **options, **more)
        pairs = list(zip(found, expected, strict=True))
        assert len(pairs) == 3
        assert all(are_same(ours, plain) for ours, plain in pairs)


def test_loading_processes_get_the_tables_place_and_not_its_rows(tmp_path: Path) -> None:
    texts(count=20_000).save_to_disk(tmp_path)
    table = datasets.load_from_disk(tmp_path).shuffle(seed=1)
    rows, bulk = in_bulk(table, etude.default_data_collator)
    numbers = [0, 0]
    expected = bulk(rows.__getitems__(numbers))
    sent = pickle.dumps((rows, bulk))
    assert len(sent) < 250_000  # the order of a shuffled table, 160,000 bytes, is in memory
    there, made = pickle.loads(sent)
    assert are_same(made(there.__getitems__(numbers)), expected)


class Bag(torch.nn.Module):
    """The mean of a text's tokens, classified."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tokens = torch.nn.Embedding(20, 4)
        self.head = torch.nn.Linear(4, 2)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        logits = self.head((self.tokens(input_ids) * attention_mask[..., None]).mean(1))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_a_training_takes_it_by_itself_and_is_the_same(tmp_path: Path) -> None:
    def trained(collator: Any) -> Any:
        arguments = helpers.training_arguments(etude, tmp_path, max_steps=4, logging_steps=1)
        data = texts(count=12).add_column("unused", ["text"] * 12)
        trainer = etude.Trainer(Bag(), arguments, train_dataset=data, data_collator=collator)
        trainer.train()
        is_in_bulk = isinstance(trainer.callback_handler.train_dataloader.collate_fn, BulkCollator)
        return (
            is_in_bulk,
            helpers.weights_of(trainer.model),
            helpers.without_timing(trainer.state.log_history),
        )

    collator = etude.DataCollatorWithPadding(wordpiece())
    (ours_in_bulk, weights, rows), (plain_in_bulk, expected, expected_rows) = (
        trained(collator), trained(lambda samples: collator(samples))
    )  # fmt: skip
    assert (ours_in_bulk, plain_in_bulk) == (True, False)
    helpers.assert_identical(weights, expected)
    assert rows == expected_rows
