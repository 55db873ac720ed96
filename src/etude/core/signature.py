"""What can be told about a model from its class and its forward, without running it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from etude.optional import is_instance_of


def base_model(model: nn.Module) -> nn.Module:
    """The model that the user wrote, inside compilation, a strategy's wrapper and PEFT adapters."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):  # torch.compile
            model = model._orig_mod  # type: ignore[assignment]
        elif is_instance_of(model, "peft", "PeftModel", "PeftMixedModel"):
            model = model.get_base_model()  # type: ignore[operator]
        else:
            return model


def _forward_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(base_model(model).forward).parameters)


def label_names(model: nn.Module) -> list[str]:
    """Arguments of forward that are labels: named so, or the positions of question answering."""
    names = list(_forward_parameters(model))
    positions = (
        ("start_positions", "end_positions")
        if "QuestionAnswering" in type(base_model(model)).__name__
        else ()
    )
    return [name for name in names if "label" in name or name in positions]


def computes_loss(model: nn.Module) -> bool:
    """Whether forward may come to a loss by itself: from labels, from `return_loss`, or always."""
    inside = getattr(inspect.unwrap(type(model).forward), "__code__", None)
    always = inside is not None and "loss" in inside.co_varnames
    return always or any("label" in name or name == "return_loss" for name in _forward_parameters(model))


def can_return_loss(model: nn.Module) -> bool:
    """Whether forward computes a loss without labels by default (`return_loss=True`)."""
    parameter = _forward_parameters(model).get("return_loss")
    return parameter is not None and parameter.default is True


def accepts_loss_kwargs(model: nn.Module) -> bool:
    """Whether forward may be given `num_items_in_batch`: the model says so, or it takes any keyword."""
    declared = getattr(base_model(model), "accepts_loss_kwargs", None)
    if declared is not None:
        return bool(declared)
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in _forward_parameters(model).values())


def shifts_labels(model: nn.Module) -> bool:
    """Whether the model's loss compares each label with the prediction made before it.

    transformers gives every model of its own a `loss_function`, also those that do not use it; the code of forward
    tells which do.
    """
    model = base_model(model)
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    forwards = [inspect.unwrap(vars(c)["forward"]) for c in type(model).__mro__ if "forward" in vars(c)]
    if getattr(model, "loss_type", None) is None and not any(
        "loss_function" in _names_used(f) for f in forwards
    ):
        return False
    loss_function: Callable[..., Any] | None = getattr(model, "loss_function", None)
    return getattr(loss_function, "__name__", "") == "ForCausalLMLoss"


def _names_used(function: Callable[..., Any]) -> tuple[str, ...]:
    code = getattr(function, "__code__", None)
    return () if code is None else code.co_names


def main_input_name(model: nn.Module) -> str:
    """Name of the input that counts: tokens, pixels, samples of sound."""
    return str(getattr(base_model(model), "main_input_name", "input_ids"))


def count_parameters(model: nn.Module, trainable_only: bool = False) -> int:
    """Number of parameters; shared ones count once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def operations_per_input_element(model: nn.Module) -> int:
    """Floating-point operations of forward and backward for one element of the main input; 0 where not known.

    Six for each parameter that is not an embedding (https://arxiv.org/abs/2001.08361).
    """
    if not hasattr(model, "num_parameters"):
        return 0
    return 6 * int(model.num_parameters(exclude_embeddings=True))  # type: ignore[operator]
