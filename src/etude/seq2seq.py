"""`Seq2SeqTrainer`: a Trainer whose evaluations let the model generate."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from etude.arguments import TrainingArguments
from etude.arguments.seq2seq import Seq2SeqTrainingArguments
from etude.core.outputs import PredictionOutput
from etude.errors import ConfigurationError
from etude.optional import is_instance_of, require
from etude.trainer import Trainer

FALLBACK_MAX_LENGTH = 20  # tokens, where neither the model nor the call nor the arguments say a length


class Seq2SeqTrainer(Trainer):
    """A `Trainer` that, with `args.predict_with_generate`, gives `compute_metrics` generated tokens.

    Its arguments are those of `Trainer`; `args` are `Seq2SeqTrainingArguments`. The model has a `generate` method and
    may be an encoder-decoder or a decoder alone.

    Generated tokens and labels are filled up with the padding token to the length that the model's generation
    configuration allows. Where a call asks for more, batches may still differ: then the shorter ones are filled up with
    -100, as predictions of all kinds are.

    Raises:
        EtudeError: something does not fit; see `Trainer`, and `load_generation_config`.
    """

    args: Seq2SeqTrainingArguments
    _gen_kwargs: dict[str, Any]

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        *arguments: Any,
        **options: Any,
    ) -> None:
        args = Seq2SeqTrainingArguments(output_dir="tmp_trainer") if args is None else args
        if not hasattr(args, "predict_with_generate"):
            raise ConfigurationError(
                f"`Seq2SeqTrainer` needs `Seq2SeqTrainingArguments`; {type(args).__name__} lacks their fields."
            )
        self._gen_kwargs = {}
        super().__init__(model, args, *arguments, **options)

    def _adopt_model(self, model: nn.Module) -> None:
        super()._adopt_model(model)
        if self.args.generation_config is not None:
            self.model.generation_config = self.load_generation_config(self.args.generation_config)
        if not self.args.predict_with_generate:
            return
        if not callable(getattr(model, "generate", None)):
            raise ConfigurationError(
                f"`predict_with_generate` needs a model with a `generate` method; {type(model).__name__} has none."
            )
        self._pad_token_id()  # better asked for now than at the end of the first epoch

    @staticmethod
    def load_generation_config(gen_config_arg: Any) -> Any:
        """A checked `transformers.GenerationConfig` of the caller's own.

        Args:
            gen_config_arg: one, or the path of its JSON file or of the folder that has it, or the name of a model.

        Raises:
            ConfigurationError: its values contradict each other, so that the model could not be saved with it.
        """
        if is_instance_of(gen_config_arg, "transformers", "GenerationConfig"):
            config = copy.deepcopy(gen_config_arg)
        else:
            loader = require("transformers", "`generation_config`").GenerationConfig
            path = Path(gen_config_arg)
            place = (path.parent, path.name) if path.is_file() else (gen_config_arg,)
            config = loader.from_pretrained(*place)
        try:
            config.validate(strict=True)
        except ValueError as error:
            raise ConfigurationError(
                f"`generation_config` contradicts itself, and a model could not be saved with it: {error}"
            ) from error
        return config

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, float]:
        """Evaluates the model as `Trainer.evaluate` does.

        Args:
            gen_kwargs: arguments of `generate`, such as `max_length` and `num_beams`; they go before those of `args`.
        """
        self._gen_kwargs = self._with_defaults(gen_kwargs)
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def _evaluate_each(
        self, datasets: dict[str, Any], metric_key_prefix: str, **options: Any
    ) -> dict[str, float]:
        defaults = self._with_defaults({})  # an evaluate of a subclass that takes no more need not see them
        asked = {name: value for name, value in self._gen_kwargs.items() if value != defaults.get(name)}
        return super()._evaluate_each(datasets, metric_key_prefix, **options, **asked)

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        **gen_kwargs: Any,
    ) -> PredictionOutput:
        """Runs the model on a data set as `Trainer.predict` does.

        Args:
            gen_kwargs: arguments of `generate`, such as `max_length` and `num_beams`; they go before those of `args`.

        Returns:
            With `predict_with_generate`, the predictions are tokens: `num_return_sequences` rows for each sample.
        """
        self._gen_kwargs = self._with_defaults(gen_kwargs)
        return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def _with_defaults(self, gen_kwargs: dict[str, Any]) -> dict[str, Any]:
        unset = [
            name for name in ("num_beams", "max_length", "max_new_tokens") if gen_kwargs.get(name) is None
        ]
        given = {name: value for name, value in gen_kwargs.items() if name not in unset}
        defaults = {"num_beams": self.args.generation_num_beams}
        if "max_new_tokens" not in given:
            defaults["max_length"] = self.args.generation_max_length
        return {**{name: value for name, value in defaults.items() if value is not None}, **given}

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[torch.Tensor | None, Any, Any]:
        """Lets the model generate from a batch, and computes the loss where there are labels.

        Args:
            prediction_loss_only: return only the loss; nothing is generated.
            gen_kwargs: arguments of `generate`; those of the evaluation in progress if there are none.

        Returns:
            (loss, tokens, labels), each None where there is none. Tokens have the shape
            [samples x num_return_sequences, length].
        """
        if not self.args.predict_with_generate or prediction_loss_only:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs(inputs)
        generate: Callable[..., torch.Tensor] = self.model.generate  # type: ignore[assignment]
        tokens = generate(**_questions(inputs), **self._with_some_length(gen_kwargs or self._gen_kwargs))
        labels = inputs.get("labels")
        loss = None
        if labels is not None:
            loss, _, _ = super().prediction_step(model, dict(inputs), prediction_loss_only=True)
            labels = self._fill_up(labels)
        return loss, self._fill_up(tokens), labels

    def _with_some_length(self, options: dict[str, Any]) -> dict[str, Any]:
        """Arguments of `generate` that end what an encoder-decoder generates; `generate` itself ends a decoder's."""
        own = self._own_lengths()
        said = any(own) or not options.keys().isdisjoint(
            ("max_length", "max_new_tokens", "generation_config")
        )
        if said or not getattr(getattr(self.model, "config", None), "is_encoder_decoder", False):
            return options
        return {**options, "max_length": FALLBACK_MAX_LENGTH}

    def _own_lengths(self) -> tuple[int | None, int | None]:
        """Of the model's generation configuration: the longest sequence, and the most new tokens."""
        config = getattr(self.model, "generation_config", None)
        return getattr(config, "max_length", None), getattr(config, "max_new_tokens", None)

    def _fill_up(self, tokens: torch.Tensor) -> torch.Tensor:
        """`tokens`, filled up to the length that the model's generation configuration allows."""
        longest, new = self._own_lengths()
        allowed = longest or FALLBACK_MAX_LENGTH
        if tokens.shape[-1] >= allowed and new is not None:
            allowed = new + 1  # and the token that a decoder starts with
        return tokens if tokens.shape[-1] >= allowed else self._pad_tensors_to_max_len(tokens, allowed)

    def _pad_tensors_to_max_len(self, tensor: torch.Tensor, max_length: int) -> torch.Tensor:
        """`tensor` of shape [n, length], filled up with the padding token to [n, max_length]."""
        return F.pad(tensor, (0, max_length - tensor.shape[-1]), value=self._pad_token_id())

    def _pad_token_id(self) -> int:
        """Of the tokenizer, which may pad with its end of sequence, else of the model."""
        tokenizer, config = self.processing_class, getattr(self.model, "config", None)
        for owner, name in (
            (tokenizer, "pad_token_id"),
            (tokenizer, "eos_token_id"),
            (config, "pad_token_id"),
        ):
            found = getattr(owner, name, None)
            if found is not None:
                return int(found)
        raise ConfigurationError(
            "Pad_token_id must be set in the configuration of the model, or the Trainer be given the tokenizer as "
            "`processing_class`: generated tokens are filled up to one length."
        )


def _questions(inputs: dict[str, Any]) -> dict[str, Any]:
    """A batch without the answers: without the labels, and without the decoder inputs that were made from them."""
    labels, decoded = inputs.get("labels"), inputs.get("decoder_input_ids")
    hidden = {"labels"}
    if labels is not None and decoded is not None and labels.shape == decoded.shape:
        hidden |= {"decoder_input_ids", "decoder_attention_mask"}
    return {name: value for name, value in inputs.items() if name not in hidden}
