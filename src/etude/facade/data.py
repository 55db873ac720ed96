"""The Trainer's methods that make data loaders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader, SequentialSampler

from etude.data import columns
from etude.data.loader import LoaderSettings, eval_loader, has_length, is_iterable, num_samples, train_loader
from etude.data.samplers import EpochSampler
from etude.errors import DataError
from etude.facade.base import TrainerAttributes


class DataMethods(TrainerAttributes):
    """Loaders for training, evaluation and prediction. Override any of them to bring your own."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The loader of this process's share of the training data."""
        if self.train_dataset is None:
            raise DataError("Trainer: training requires a train_dataset.")
        return self._get_dataloader(
            dataset=self.train_dataset,
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
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if dataset is None or not has_length(dataset):
            return None
        if self.args.train_sampling_strategy == "sequential":
            return SequentialSampler(dataset)
        return EpochSampler(dataset, self._order_seed())

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
            dataloader_key: kept for compatibility; loaders are not kept between evaluations.
        """
        collator = self.data_collator
        if columns.is_arrow_dataset(dataset):
            dataset = self._remove_unused_columns(dataset, description=description)
        else:
            collator = self._get_collator_with_removed_columns(collator, description=description)
        sampler = sampler_fn(dataset) if sampler_fn is not None and has_length(dataset) else None
        if sampler is None and has_length(dataset) and not is_iterable(dataset):
            sampler = SequentialSampler(dataset)
        world = self._etude.strategy.world
        settings = self._loader_settings(is_training)
        if not is_training:
            return eval_loader(
                dataset, sampler, collator, batch_size=batch_size, world=world, settings=settings
            )
        return train_loader(
            dataset,
            sampler,
            collator,
            batch_size=batch_size,
            drop_last=self.args.dataloader_drop_last,
            seed=self._order_seed(),
            world=world,
            settings=settings,
        )

    def _order_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _loader_settings(self, is_training: bool) -> LoaderSettings:
        args = self.args
        return LoaderSettings(
            num_workers=args.dataloader_num_workers,
            # without an accelerator there is nothing that page-locked memory would speed up
            pin_memory=args.dataloader_pin_memory and self._etude.strategy.device.type != "cpu",
            persistent_workers=args.dataloader_persistent_workers and is_training,
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
        what = (description or "data").lower()
        tell = what not in self._etude.told_columns
        self._etude.told_columns.add(what)
        return columns.without_unused_columns(dataset, self._signature_columns, what, tell)

    def _get_collator_with_removed_columns(self, data_collator: Any, description: str | None = None) -> Any:
        """A collator that leaves out what the model does not take."""
        if not self.args.remove_unused_columns:
            return data_collator
        self._set_signature_columns_if_needed()
        if self._signature_columns is None:
            return data_collator
        what = (description or "data").lower()
        tell = what not in self._etude.told_columns
        self._etude.told_columns.add(what)
        return columns.RemoveColumnsCollator(data_collator, self._signature_columns, what, tell)
