"""What the Trainer's data loaders are made of where several samples share a row."""

from __future__ import annotations

from typing import Any

from etude.data.columns import RemoveColumnsCollator
from etude.data.lengths import sample_lengths
from etude.data.loader import has_length, is_iterable
from etude.data.packing import (
    PackedBatches,
    PackedRows,
    Packing,
    PackingCollator,
    only_pads,
    samples_themselves,
)
from etude.errors import ConfigurationError
from etude.models.attention import find_isolation, ignores_first_labels


def packed_batches(trainer: Any, dataset: Any) -> PackedBatches:
    """The rows of the training data that this process gets.

    Raises:
        ConfigurationError: the data is a stream, or a sample is longer than a row.
    """
    _require_samples(dataset)
    args = trainer.args
    lengths = sample_lengths(dataset, args.length_column_name, trainer._counted_input())
    seed = None if args.train_sampling_strategy == "sequential" else trainer._order_seed()
    packing = Packing(lengths, args.packing_length, seed)
    world = trainer._etude.strategy.world
    return PackedBatches(
        packing, trainer._train_batch_size, args.dataloader_drop_last, world.rank, world.size
    )


def packed_parts(
    trainer: Any, dataset: Any, sampler: Any, collator: Any
) -> tuple[PackedRows, PackingCollator]:
    """The data set and the collator for rows. Tries out whether the model keeps the samples of a row apart.

    Raises:
        ConfigurationError: it does not; or the data is a stream, or in an order of the user's own.
    """
    _require_samples(dataset)
    if not isinstance(sampler, PackedBatches):
        raise ConfigurationError(
            f"`packing=True` orders the samples itself, and cannot follow your own {type(sampler).__name__}: leave "
            "`packing` out, or do not override `_get_train_sampler`."
        )
    if only_pads(trainer.data_collator):
        if isinstance(collator, RemoveColumnsCollator):
            collator.data_collator = samples_themselves
        else:
            collator = samples_themselves
    engine = trainer._etude
    with engine.precision.applied(trainer.model):
        isolation = find_isolation(
            trainer.model,
            int(sampler.packing.lengths.max(initial=0)),
            is_rounded=engine.precision.kind != "no",
        )
        shifted = engine.counts_label_shift or ignores_first_labels(trainer.model)
    padding = getattr(trainer.processing_class, "pad_token_id", None)
    rows = PackingCollator(collator, isolation, sampler.packing.room, shifted, padding_id=padding or 0)
    return PackedRows(dataset), rows


def _require_samples(dataset: Any) -> None:
    if not has_length(dataset) or is_iterable(dataset):
        raise ConfigurationError(
            "`packing=True` needs a map-style data set: the lengths of a stream are not known beforehand. Leave it out "
            "or load the data."
        )
