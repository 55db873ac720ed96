"""The Trainer's methods that run the model: one training step, the loss, one prediction step."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from etude.core import nested, signature
from etude.data.budget import flattened
from etude.data.items import label_items
from etude.errors import DataError, ModelOutputError
from etude.facade.base import TrainerAttributes
from etude.loops.step import forward_backward

_NOTHING = contextlib.nullcontext()


class StepMethods(TrainerAttributes):
    """What happens to a batch. Override any of them; the loop calls them with these arguments."""

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | None]:
        """The next micro-batches of an update, and how many label items they and those of other processes have.

        The number is None where the model is not given it, or where the labels cannot be counted.
        """
        batches = flattened(itertools.islice(epoch_iterator, num_batches))
        return batches, self._get_num_items_in_batch([b for b in batches if b is not None], device)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        """How many label items the micro-batches of an update have, those of other processes included."""
        if not (self.model_accepts_loss_kwargs or self.compute_loss_func is not None):
            return None
        return self._etude.accumulation.count(batch_samples, device)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward of one micro-batch; the optimizer does not move.

        Args:
            model: the module to run, possibly wrapped.
            inputs: the batch, as the loader gave it.
            num_items_in_batch: number of label items of the global batch.

        Returns:
            The micro-batch's part of the loss of the global batch, detached.
        """
        if not (model.training and self.model.training):  # an evaluation switches the model, not its wrapper
            model.train()
            if callable(getattr(self.optimizer, "train", None)):  # schedule-free optimizers have modes too
                self.optimizer.train()
        inputs = self._prepare_inputs(inputs)
        return forward_backward(
            self,
            self._etude.accumulation,
            self._etude.precision,
            model,
            inputs,
            num_items_in_batch,
            self.loss_is_scaled_for_ga,
            self._loss_context(),
        )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch: from `compute_loss_func`, with smoothed labels, or as the model returns it.

        An override may return the mean over the batch, or the sum divided by `num_items_in_batch`: which of the two it
        is, is found out by whether it used the number (`loss_is_scaled_for_ga` says it outright).

        Args:
            return_outputs: return (loss, outputs) instead of the loss.
            num_items_in_batch: number of label items of the global batch.
        """
        outside = self.compute_loss_func is not None or self.label_smoother is not None
        labels = inputs.pop("labels") if outside and "labels" in inputs else None
        if self.model_accepts_loss_kwargs and num_items_in_batch is not None:
            inputs = {**inputs, "num_items_in_batch": num_items_in_batch}
        outputs = model(**inputs)
        if self.compute_loss_func is not None:
            loss = self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        elif self.label_smoother is not None and labels is not None:
            shifted = self._etude.counts_label_shift
            loss = self.label_smoother(outputs, labels, shifted, num_items_in_batch=num_items_in_batch)
        else:
            loss = _loss_of(outputs, inputs)
        averaged_over = self._etude.strategy.world.size if self.args.average_tokens_across_devices else 1
        if averaged_over > 1 and model.training and self._etude.accumulation.is_divided(num_items_in_batch):
            loss = (
                loss * averaged_over
            )  # it is divided by the items of all processes, and will be averaged over them
        return (loss, outputs) if return_outputs else loss

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        """The context in which `compute_loss` is called; empty, for subclasses to add to."""
        stack = contextlib.ExitStack()
        stack.enter_context(self.autocast_smart_context_manager())
        return stack

    def autocast_smart_context_manager(
        self, cache_enabled: bool | None = True
    ) -> contextlib.AbstractContextManager[Any]:
        """Part of that context; does nothing, as the model itself runs in the chosen precision."""
        return _NOTHING

    def _loss_context(self) -> contextlib.AbstractContextManager[Any]:
        """`compute_loss_context_manager`, or nothing where nobody overrides it."""
        plain = type(self).compute_loss_context_manager is StepMethods.compute_loss_context_manager
        if plain and type(self).autocast_smart_context_manager is StepMethods.autocast_smart_context_manager:
            return _NOTHING
        return self.compute_loss_context_manager()

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor | None, Any, Any]:
        """Runs the model on a batch without training it.

        Args:
            prediction_loss_only: return only the loss.
            ignore_keys: keys of the outputs to leave out; by default those that the model's configuration names.

        Returns:
            (loss, outputs, labels), each None where there is none.
        """
        has_labels = bool(self.label_names) and all(inputs.get(name) is not None for name in self.label_names)
        returns_loss = inputs.get("return_loss")
        if returns_loss is None:
            returns_loss = self.can_return_loss
        with_loss = has_labels or (not self.label_names and bool(returns_loss))
        inputs = self._prepare_inputs(inputs)
        ignored = self._ignored_outputs() if ignore_keys is None else ignore_keys
        labels = None
        if with_loss:
            labels = _single(nested.detach(tuple(inputs.get(name) for name in self.label_names)))
        loss = None
        with torch.no_grad(), self._loss_context():
            if with_loss:
                count = self._count_items(inputs)
                loss, outputs = self.compute_loss(
                    model, inputs, return_outputs=True, num_items_in_batch=count
                )
                loss = loss.detach().mean()
            else:
                outputs = model(**inputs)
        if prediction_loss_only:
            return loss, None, None
        return loss, _single(nested.detach(_outputs_without(outputs, ignored, with_loss))), labels

    def _count_items(self, inputs: Any) -> torch.Tensor | None:
        if not (self.model_accepts_loss_kwargs or self.compute_loss_func is not None):
            return None
        items = label_items(inputs, self._etude.counts_label_shift)
        return None if items is None else torch.full((), items, device=self._etude.strategy.device)

    def _ignored_outputs(self) -> list[str]:
        config = getattr(self.model, "config", None)
        return (
            []
            if config is None
            else list(getattr(config, "keys_to_ignore_at_inference", ["past_key_values"]))
        )

    def _prepare_input(self, data: Any) -> Any:
        """Moves tensors to the device, inside any nesting."""
        return nested.to_device(data, self._etude.strategy.device)

    def _prepare_inputs(self, inputs: Any) -> Any:
        """A batch as the model gets it.

        Raises:
            DataError: nothing is in it, which mostly means that every column was left out.
        """
        prepared = self._prepare_input(inputs)
        if len(prepared) == 0:
            raise DataError(
                "The batch received was empty, your model won't be able to train on it. Double-check that your data "
                f"has what the model expects: {', '.join(self._signature_columns or [])}."
            )
        return prepared

    def floating_point_ops(self, inputs: Any) -> int:
        """Floating-point operations of forward and backward for a batch; 0 where the model does not tell."""
        engine = self._etude
        if engine.operations is None:
            engine.operations = signature.operations_per_input_element(self.model)
        if not engine.operations:
            return 0
        main = inputs.get(signature.main_input_name(self.model)) if isinstance(inputs, Mapping) else None
        return engine.operations * main.numel() if isinstance(main, torch.Tensor) else 0

    def store_flos(self) -> None:
        """Adds the operations since the last call, of all processes, to `state.total_flos`; the tokens likewise."""
        engine = self._etude
        if engine.run is None:
            return
        flops, tokens = engine.run.progress.take_counts()
        if engine.strategy.world.size > 1:
            counts = engine.strategy.gather_objects((flops, tokens))
            flops, tokens = sum(count[0] for count in counts), sum(count[1] for count in counts)
        self.state.total_flos += flops
        self.state.num_input_tokens_seen += tokens

    def _track_num_input_tokens(self, inputs: Any) -> None:
        """Counts the tokens of a micro-batch; called for each of them with `include_num_input_tokens_seen`.

        One process that counts on the host files them at once; otherwise they are summed up when a row is logged.
        """
        engine = self._etude
        if engine.run is None or engine.run.tokens is None:  # a subclass counts by itself
            return
        count = engine.run.tokens.count(inputs)
        if isinstance(count, int) and engine.strategy.world.size == 1:
            self.state.num_input_tokens_seen += count
        else:
            engine.run.progress.tokens += count


def _loss_of(outputs: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    if isinstance(outputs, Mapping):
        if "loss" not in outputs:
            raise ModelOutputError(
                f"The model did not return a loss from the inputs, only the following keys: {', '.join(outputs)}. For "
                f"reference, the inputs it received are {', '.join(inputs)}. Give it labels, or a `compute_loss_func`."
            )
        loss = outputs["loss"]
    else:
        loss = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    if not isinstance(loss, torch.Tensor):
        raise ModelOutputError(f"The model's loss should be a tensor, it is a {type(loss).__name__}.")
    return loss


def _outputs_without(outputs: Any, ignored: list[str], has_loss: bool) -> Any:
    if isinstance(outputs, Mapping):
        left_out = {*ignored, "loss"} if has_loss else set(ignored)
        return tuple(value for key, value in outputs.items() if key not in left_out)
    if not has_loss:
        return outputs
    return outputs[1:] if isinstance(outputs, (list, tuple)) else ()


def _single(values: Any) -> Any:
    return values[0] if isinstance(values, (list, tuple)) and len(values) == 1 else values
