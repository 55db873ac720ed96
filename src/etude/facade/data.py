"""The Trainer's methods that make data loaders."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader, SequentialSampler

from etude.core import signature
from etude.data import columns
from etude.data.budget import BudgetSampler, launch_cost
from etude.data.grouping import LengthGroupedEpochSampler
from etude.data.lengths import sample_lengths
from etude.data.loader import LoaderSettings, eval_loader, has_length, is_iterable, num_samples, train_loader
from etude.data.mixing import MixedDataset
from etude.data.rebalance import BatchRebalanceSampler
from etude.data.samplers import EpochSampler
from etude.data.waiting import num_loading_processes
from etude.errors import ConfigurationError, DataError
from etude.facade.base import TrainerAttributes
from etude.facade.mixing import mixed, training_data
from etude.facade.packing import packed_batches, packed_parts
from etude.models.independence import require_independent_samples

logger = logging.getLogger(__name__)


class DataMethods(TrainerAttributes):
    """Loaders for training, evaluation and prediction. Override any of them to bring your own."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The loader of this process's share of the training data."""
        if self.train_dataset is None:
            raise DataError("Trainer: training requires a train_dataset.")
        if self.args.max_tokens_per_batch is not None:
            self._check_token_budget(self.train_dataset)
        dataset = training_data(self)
        if has_length(dataset) and len(dataset) == 0:
            raise DataError("Trainer: the train_dataset has no sample; look at how it was filtered.")
        return self._get_dataloader(
            dataset=dataset,
            description="Training",
            batch_size=self._train_batch_size,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """The loader of this process's share of an evaluation set.

        Args:
            eval_dataset: a data set, or the name of one where the Trainer has several; its own if not given.
        """
        if eval_dataset is None and self.eval_dataset is None:
            raise DataError("Trainer: evaluation requires an eval_dataset.")
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        if isinstance(eval_dataset, str):
            dataset = self.eval_dataset[eval_dataset]
        return self._get_dataloader(
            dataset=dataset,
            description="Evaluation",
            batch_size=self.args.eval_batch_size,
            sampler_fn=self._get_eval_sampler,
            dataloader_key=eval_dataset if isinstance(eval_dataset, str) else "eval",
        )

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """The loader of this process's share of a data set to predict."""
        return self._get_dataloader(
            dataset=test_dataset,
            description="test",
            batch_size=self.args.eval_batch_size,
            sampler_fn=self._get_eval_sampler,
        )

    def num_examples(self, dataloader: Any) -> int:
        """Number of samples of a loader: those of its data set, or its batches times the batch size."""
        found = num_samples(dataloader)
        return len(dataloader) * self.args.per_device_train_batch_size if found is None else found

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """The global order of training samples, the same on every process; None for a stream."""
        dataset = mixed(self.train_dataset, self.args) if train_dataset is None else train_dataset
        strategy = str(self.args.train_sampling_strategy)
        if dataset is not None and self.args.packing:
            return packed_batches(self, dataset)
        if dataset is None or not has_length(dataset):
            if dataset is not None and strategy in ("group_by_length", "batch_rebalance"):
                logger.warning(
                    "The training data is a stream without a length: it is read in its own order, and "
                    "`train_sampling_strategy='%s'` has no effect.", strategy,
                )  # fmt: skip
            return None
        by_length = strategy in ("group_by_length", "batch_rebalance")
        order: Any = EpochSampler(dataset, self._order_seed())
        if isinstance(dataset, MixedDataset):
            order = dataset.order(self._order_seed(), shuffle=strategy != "sequential")
        elif strategy == "sequential":
            order = SequentialSampler(dataset)
        if by_length or self.args.max_tokens_per_batch is not None:
            return self._sampler_by_length(dataset, strategy, order)
        return order

    def _sampler_by_length(self, dataset: Any, strategy: str, order: Any) -> Any:
        lengths = sample_lengths(dataset, self.args.length_column_name, self._counted_input())
        world, device = self._etude.strategy.world, self._etude.strategy.device
        steps = self._etude.kept_accumulation or self.args.gradient_accumulation_steps
        global_batch = self._train_batch_size * steps * world.size
        shape: dict[str, Any] = {"rank": world.rank, "drop_last": self.args.dataloader_drop_last}
        if self.args.max_tokens_per_batch is not None:
            return BudgetSampler(
                order,
                lengths,
                self._train_batch_size,
                steps,
                max_tokens=self.args.max_tokens_per_batch,
                launch_cost=launch_cost(device.type),
                world_size=world.size,
                **shape,
            )
        if strategy == "group_by_length":
            return LengthGroupedEpochSampler(global_batch, lengths, self._order_seed())
        return BatchRebalanceSampler(
            lengths,
            effective_batch_size=global_batch,
            dp_size=world.size,
            grad_accum=steps,
            seed=self._order_seed(),
            **shape,
        )

    def _check_token_budget(self, dataset: Any) -> None:
        if not has_length(dataset):
            raise ConfigurationError(
                "`max_tokens_per_batch` needs a map-style data set: the lengths of a stream are not known beforehand. "
                "Leave it out, or load the data."
            )
        require_independent_samples(self.model, "max_tokens_per_batch")

    def _counted_input(self) -> str:
        """Key of what a sample's length is that of."""
        names = getattr(self.processing_class, "model_input_names", None)
        return str(names[0]) if names else signature.main_input_name(self.model)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """The order of evaluated samples; None for a stream."""
        return SequentialSampler(eval_dataset) if has_length(eval_dataset) else None

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable[[Any], Any] | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader[Any]:
        """A loader with the columns, the collator and the options of this Trainer.

        Args:
            description: what the data is for, in messages.
            sampler_fn: gives the order of a map-style data set.
            is_training: cut global batches for training, rather than every sample once for evaluation.
            dataloader_key: name under which a loader whose processes live on is kept for the next evaluation; it is
                used again only for the same data set, collator and options.
        """
        settings = self._loader_settings(is_training or dataloader_key is not None)
        made_from = (dataset, self.data_collator, batch_size, settings)
        if dataloader_key is not None and (kept := self._kept_loader(dataloader_key, made_from)) is not None:
            return kept
        sampler = sampler_fn(dataset) if sampler_fn is not None and has_length(dataset) else None
        collator = self.data_collator
        if columns.is_arrow_dataset(dataset):
            dataset = self._remove_unused_columns(dataset, description=description)
        else:
            collator = self._get_collator_with_removed_columns(collator, description=description)
        if sampler is None and has_length(dataset) and not is_iterable(dataset):
            sampler = SequentialSampler(dataset)
        seed, world = self._order_seed(), self._etude.strategy.world
        if not is_training:
            loader = eval_loader(
                dataset, sampler, collator, batch_size=batch_size, seed=seed, world=world, settings=settings
            )
            if dataloader_key is not None:
                self._keep_loader(dataloader_key, loader, made_from)
            return loader
        if self.args.packing:
            dataset, collator = packed_parts(self, dataset, sampler, collator)
        return train_loader(
            dataset,
            sampler,
            collator,
            batch_size=batch_size,
            drop_last=self.args.dataloader_drop_last,
            seed=seed,
            world=world,
            settings=settings,
        )

    def _kept_loader(self, key: str, made_from: tuple[Any, ...]) -> DataLoader[Any] | None:
        """The loader of an earlier evaluation, if it reads just this."""
        known = self._etude.kept_loaders.get(key)
        if known is None or made_from[0] is not known[0] or made_from[1] is not known[1]:
            return None
        return self._eval_dataloaders.get(key) if made_from[2:] == known[2:] else None

    def _keep_loader(self, key: str, loader: DataLoader[Any], made_from: tuple[Any, ...]) -> None:
        if self.args.dataloader_persistent_workers:
            self._etude.kept_loaders[key] = made_from
            self._eval_dataloaders = {**getattr(self, "_eval_dataloaders", {}), key: loader}

    def _order_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _loader_settings(self, is_kept: bool) -> LoaderSettings:
        args = self.args
        return LoaderSettings(
            num_workers=num_loading_processes(args.dataloader_num_workers, self._etude.strategy.world.size),
            # without an accelerator there is nothing that page-locked memory would speed up
            pin_memory=args.dataloader_pin_memory and self._etude.strategy.device.type != "cpu",
            persistent_workers=args.dataloader_persistent_workers and is_kept,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            in_order=args.dataloader_in_order,
        )

    def _set_signature_columns_if_needed(self) -> None:
        """Finds out which columns the model takes; subclasses set `_signature_columns` themselves."""
        if self._signature_columns is None:
            self._signature_columns = columns.wanted_columns(self.model, self.label_names)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        """A `datasets.Dataset` with only the columns that the model takes."""
        if not self.args.remove_unused_columns:
            return dataset
        self._set_signature_columns_if_needed()
        if self._signature_columns is None:
            return dataset
        return columns.without_unused_columns(
            dataset, self._signature_columns, *self._still_to_tell(description)
        )

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        """A collator that leaves out what the model does not take."""
        if not self.args.remove_unused_columns:
            return data_collator
        self._set_signature_columns_if_needed()
        if self._signature_columns is None:
            return data_collator
        return columns.RemoveColumnsCollator(
            data_collator, self._signature_columns, *self._still_to_tell(description)
        )

    def _still_to_tell(self, description: str | None) -> tuple[str, bool]:
        """What the data is for, and whether its columns that are left out have not been told yet."""
        what = (description or "data").lower()
        tell = what not in self._etude.told_columns
        self._etude.told_columns.add(what)
        return what, tell
