"""The mix of data sets that a Trainer is to be trained on."""

from __future__ import annotations

from typing import Any

from etude.data import columns
from etude.data.mixing import MixedDataset, is_mix
from etude.data.sources import fit_together
from etude.errors import ConfigurationError, UnsupportedOptionError
from etude.overriding import is_overridden

OPTIONS = ("mixing_weights", "mixing_temperature")


def mix_fits(trainer: Any, dataset: Any) -> None:
    """Several data sets must fit to the options that mix them, unless a subclass makes its own loader of them."""
    if not is_overridden(trainer, "get_train_dataloader"):
        mixed(dataset, trainer.args)


def mixed(dataset: Any, args: Any) -> Any:
    """A dictionary of data sets as one, in the shares that the arguments say; any other data set as it is.

    Raises:
        ConfigurationError: the arguments do not fit to the data, or to each other.
        DataError: a data set is empty, or a stream.
    """
    is_ready = isinstance(dataset, MixedDataset)
    given = [name for name in OPTIONS if getattr(args, name) is not None]
    if given and not is_mix(dataset):
        instead = (
            "the MixedDataset has its own" if is_ready else "give several as `train_dataset={name: dataset}`"
        )
        raise ConfigurationError(f"`{given[0]}` is for a dictionary of data sets: {instead}.")
    if is_mix(dataset):
        dataset = MixedDataset(dataset, args.mixing_weights, args.mixing_temperature, args.mixing_stop)
    if isinstance(dataset, MixedDataset):
        _options_fit(dataset, args)
    return dataset


def training_data(trainer: Any) -> Any:
    """The Trainer's training data as its loader reads them: a mix is checked, and has only the columns it needs.

    Raises:
        DataError: what is mixed does not fit into one batch.
    """
    dataset = mixed(trainer.train_dataset, trainer.args)
    if not isinstance(dataset, MixedDataset):
        return dataset
    kept = {
        name: trainer._remove_unused_columns(source, description=f"training ({name})")
        if columns.is_arrow_dataset(source)
        else source
        for name, source in dataset.sources.items()
    }
    if trainer.args.remove_unused_columns:
        trainer._set_signature_columns_if_needed()
    fit_together(
        kept,
        trainer.data_collator,
        trainer._signature_columns if trainer.args.remove_unused_columns else None,
    )
    return dataset.with_sources(kept)


def _options_fit(dataset: MixedDataset, args: Any) -> None:
    strategy = str(args.train_sampling_strategy)
    if strategy not in ("random", "sequential"):
        raise UnsupportedOptionError(
            f"`train_sampling_strategy='{strategy}'` does not keep the shares of a mix of data sets; "
            "`max_tokens_per_batch` saves as much padding, and keeps them."
        )
    if getattr(args, "packing", False):
        raise UnsupportedOptionError(
            "`packing=True` is not supported for a mix of data sets: pack them beforehand."
        )
    if dataset.stop == "steps" and args.max_steps <= 0:
        raise ConfigurationError("`mixing_stop='steps'` needs `max_steps`, which says when training ends.")
