"""`trainer.accelerator`: what code written for the reference asks of accelerate, answered by etude's own parts.

It has the members that subclasses of the Trainer use, under accelerate's names. Nothing of accelerate is imported;
`etude.compat` may put its real object behind the view, for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from etude.data.prepared import PreparedLoader, prepared
from etude.engine import Engine
from etude.errors import UnsupportedOptionError
from etude.strategies import collectives

# accelerate's names of the kinds of distribution
_KINDS = {"single": "NO", "ddp": "MULTI_GPU", "fsdp": "FSDP", "deepspeed": "DEEPSPEED", "xla": "XLA"}


@dataclass
class DataLoaderConfig:
    """How `prepare` treats data loaders.

    Attributes:
        even_batches: give every process the same number of batches where somebody else than the Trainer iterates.
        data_seed: seed of the order of samples.
        split_batches, dispatch_batches, use_seedable_sampler, non_blocking: accelerate's names, at etude's one value.
    """

    even_batches: bool = True
    data_seed: int | None = None
    split_batches: bool = False
    dispatch_batches: bool | None = None
    use_seedable_sampler: bool = True
    non_blocking: bool = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("split_batches", "dispatch_batches") and value:
            raise UnsupportedOptionError(
                f"`accelerator.dataloader_config.{name}=True` is not supported by etude: every process reads its own "
                "share of the data."
            )
        super().__setattr__(name, value)


class GradientState:
    """Where the update in progress stands.

    Attributes:
        num_steps: accelerate's own accumulation, which is not used.
    """

    num_steps = 1
    end_of_dataloader = False
    remainder = -1
    plugin_kwargs: ClassVar[dict[str, Any]] = {}

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def sync_gradients(self) -> bool:
        """Whether the micro-batch in progress is the last one of its update."""
        return self._engine.accumulation.is_last


class ProcessState:
    """Which process this is, on which device, and what shares the work.

    Attributes:
        deepspeed_plugin, fsdp_plugin: accelerate's options of those, where they are in use.
    """

    deepspeed_plugin: Any = None
    fsdp_plugin: Any = None

    def __init__(self, engine: Engine) -> None:
        strategy = engine.strategy
        self.device = strategy.device
        self.num_processes, self.process_index = strategy.world.size, strategy.world.rank
        self.local_process_index = strategy.world.local_rank
        self.is_main_process = strategy.world.is_main
        self.is_local_main_process = strategy.world.is_local_main
        self.is_last_process = self.process_index == self.num_processes - 1
        self.mixed_precision = engine.precision.kind
        kind = _KINDS.get(strategy.name, "NO")
        self.distributed_type = "MULTI_CPU" if kind == "MULTI_GPU" and self.device.type == "cpu" else kind
        self.use_distributed = self.num_processes > 1


class AcceleratorView:
    """The part of `accelerate.Accelerator` that Trainer subclasses use.

    Args:
        engine: the parts of the Trainer.
        seed: of the order of samples in loaders that are prepared.
        optimizer: gives the Trainer's optimizer, or None.

    Attributes:
        dataloader_config: how `prepare` treats data loaders.
        gradient_state: where the update in progress stands.
        parallelism_config: None: there is neither tensor nor context parallelism.
        behind: set by `etude.compat`: makes the object that answers for members which the view lacks.
    """

    behind: ClassVar[Callable[[AcceleratorView], Any] | None] = None
    parallelism_config = None
    torch_device_mesh = None
    optimizer_step_was_skipped = False
    gradient_accumulation_steps = 1

    def __init__(self, engine: Engine, seed: int, optimizer: Callable[[], Optimizer | None]) -> None:
        self.state = ProcessState(engine)
        self.gradient_state = GradientState(engine)
        self.dataloader_config = DataLoaderConfig(data_seed=seed)
        self._engine = engine
        self._optimizer = optimizer
        self._loaders: WeakSet[PreparedLoader] = WeakSet()
        self._in_precision: dict[int, AbstractContextManager[None]] = {}

    def __getattr__(self, name: str) -> Any:
        state = self.__dict__.get("state")
        if not name.startswith("_") and hasattr(state, name):  # device, num_processes, is_main_process ...
            return getattr(state, name)
        behind = type(self).behind
        if not name.startswith("__") and state is not None and behind is not None:
            return getattr(behind(self), name)
        raise AttributeError(
            f"etude's `trainer.accelerator` has no {name!r}: it has {', '.join(sorted(_members()))}. "
            "`etude.compat.install()` puts accelerate's own object behind it."
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _members() and callable(getattr(type(self), name, None)):
            raise UnsupportedOptionError(
                f"Replacing `trainer.accelerator.{name}` would have no effect on etude's loop: override a method of "
                "the Trainer instead (docs/extending.md)."
            )
        super().__setattr__(name, value)

    # What is in use

    @property
    def even_batches(self) -> bool:
        """Whether loaders that are prepared give every process the same number of batches."""
        return self.dataloader_config.even_batches

    @even_batches.setter
    def even_batches(self, value: bool) -> None:
        self.dataloader_config.even_batches = value

    @property
    def sync_gradients(self) -> bool:
        """Whether the micro-batch in progress is the last one of its update."""
        return self.gradient_state.sync_gradients

    @property
    def is_fsdp2(self) -> bool:
        """Whether parameters are sharded by PyTorch's `fully_shard`."""
        return self.state.distributed_type == "FSDP"

    @property
    def scaler(self) -> Any:
        """The loss scaler of float16, or None."""
        return self._engine.precision.scaler

    # Several processes

    def gather(self, tensor: Any) -> Any:
        """Tensors of all processes, joined along their first dimension."""
        return collectives.gather(tensor, self._engine.strategy)

    def gather_for_metrics(self, input_data: Any, use_gather_object: bool = False) -> Any:
        """`gather`, also for other objects, without what was repeated only to keep processes in step."""
        strategy = self._engine.strategy
        if strategy.world.size == 1:
            return input_data
        counts = not self._repeats()
        if use_gather_object or not collectives.only_tensors(input_data):
            return collectives.gather_items(input_data, strategy, counts)
        return collectives.gather(input_data, strategy, counts)

    def _repeats(self) -> bool:
        repeats = self._engine.strategy.repeats or self._engine.accumulation.is_spare
        return repeats or any(loader.filling for loader in self._loaders)

    def reduce(self, tensor: Any, reduction: str = "sum", scale: float = 1.0) -> Any:
        """Tensors summed ("sum") or averaged ("mean") over all processes."""
        return collectives.reduce(tensor, self._engine.strategy, reduction, scale)

    def pad_across_processes(
        self, tensor: Any, dim: int = 0, pad_index: float = 0, pad_first: bool = False
    ) -> Any:
        """Tensors filled up with `pad_index` to the longest of all processes."""
        return collectives.pad(tensor, self._engine.strategy, dim, pad_index, pad_first)

    def wait_for_everyone(self) -> None:
        """Waits until every process is here."""
        self._engine.strategy.barrier()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints on the first process of each machine."""
        if self.state.is_local_main_process:
            print(*args, **kwargs)

    @contextmanager
    def split_between_processes(self, inputs: Any, apply_padding: bool = False) -> Iterator[Any]:
        """This process's part of a list, tuple, tensor, or dictionary of those.

        Args:
            apply_padding: fill shorter parts up with their last item, to the length of the longest.
        """
        yield self._share(inputs, apply_padding)

    def _share(self, inputs: Any, fill: bool) -> Any:
        if isinstance(inputs, dict):
            return {key: self._share(value, fill) for key, value in inputs.items()}
        size, rank = self.state.num_processes, self.state.process_index
        least, rest = divmod(len(inputs), size)
        start = rank * least + min(rank, rest)
        part = inputs[start : start + least + (rank < rest)]
        missing = least + (rest > 0) - len(part)
        if not (fill and missing):
            return part
        last = inputs[-1:]
        if isinstance(part, torch.Tensor):
            return torch.cat([part, last.expand(missing, *last.shape[1:])])
        return part + last * missing

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The first process goes through the block before the others do."""
        if not self.state.is_main_process:
            self.wait_for_everyone()
        yield
        if self.state.is_main_process:
            self.wait_for_everyone()

    # Models, optimizers, loaders

    def prepare(self, *parts: Any, device_placement: Any = None) -> Any:
        """Each part made fit for the run: models, loaders; optimizers and schedules stay as they are.

        Args:
            device_placement: accepted as in accelerate; models and batches always go to the device.
        """
        made = tuple(self._prepare_one(part) for part in parts)
        return made[0] if len(made) == 1 else made

    def _prepare_one(self, part: Any) -> Any:
        if isinstance(part, DataLoader):
            return self.prepare_data_loader(part)
        return self.prepare_model(part) if isinstance(part, nn.Module) else part

    def prepare_data_loader(self, data_loader: Any, device_placement: Any = None) -> Any:
        """This process's share of a loader; an order drawn at random is drawn anew from seed and epoch."""
        strategy, config = self._engine.strategy, self.dataloader_config
        loader = prepared(
            data_loader,
            seed=torch.initial_seed() if config.data_seed is None else config.data_seed,
            world=strategy.world,
            device=strategy.device,
            even=config.even_batches,
        )
        if isinstance(loader, PreparedLoader):
            self._loaders.add(loader)
        return loader

    def prepare_model(
        self, model: nn.Module, device_placement: bool | None = None, evaluation_mode: bool = False
    ) -> nn.Module:
        """A model on the device and in the run's precision; wrapped for several processes unless only evaluated."""
        if device_placement is not False:
            model.to(self._engine.strategy.device)
        if id(model) not in self._in_precision:
            context = self._engine.precision.applied(model)
            context.__enter__()
            self._in_precision[id(model)] = context
        return model if evaluation_mode else self._engine.strategy.wrap(model)

    def unwrap_model(
        self, model: nn.Module, keep_fp32_wrapper: bool = True, keep_torch_compile: bool = True
    ) -> nn.Module:
        """The user's own module inside the wrappers.

        Args:
            keep_fp32_wrapper: accepted as in accelerate; there is none.
            keep_torch_compile: leave the wrapper of `torch.compile` around it.
        """
        compiled = model if hasattr(model, "_orig_mod") else None
        inner = model._orig_mod if compiled is not None else model
        while isinstance(inner, (DistributedDataParallel, nn.DataParallel)):
            inner = inner.module
        if compiled is None:
            return inner  # type: ignore[return-value]
        return compiled if keep_torch_compile and inner is compiled._orig_mod else inner  # type: ignore[return-value]

    def get_state_dict(self, model: nn.Module, unwrap: bool = True) -> dict[str, Any]:
        """The weights of a model."""
        return dict((self.unwrap_model(model) if unwrap else model).state_dict())

    # The step

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Backward as the run's precision wants it."""
        self._engine.precision.scale(loss).backward(**kwargs)  # type: ignore[no-untyped-call]

    def autocast(self, autocast_handler: Any = None) -> AbstractContextManager[Any]:
        """A context in which operations run in the precision of the run."""
        return self._engine.precision.autocast()

    def no_sync(self, model: nn.Module) -> AbstractContextManager[Any]:
        """A context in which a backward does not exchange gradients."""
        return self._engine.strategy.synchronize(model, False)

    def unscale_gradients(self, optimizer: Optimizer | None = None) -> None:
        """Brings gradients back to the size of the unscaled loss; more than once does no harm."""
        chosen = self._optimizer() if optimizer is None else optimizer
        if chosen is not None:
            self._engine.precision.unscale(chosen)

    def clip_grad_norm_(self, parameters: Any, max_norm: float, norm_type: float = 2) -> torch.Tensor:
        """Scales gradients down to a total norm; returns what it was before."""
        self.unscale_gradients()
        return nn.utils.clip_grad_norm_(parameters, max_norm, norm_type=norm_type)

    def clip_grad_value_(self, parameters: Any, clip_value: float) -> None:
        """Cuts gradients off at a value."""
        self.unscale_gradients()
        nn.utils.clip_grad_value_(parameters, clip_value)

    # The end

    def free_memory(self, *objects: Any) -> list[None]:
        """Forgets what was prepared, and returns a None for each object, to be assigned to its name."""
        for context in self._in_precision.values():
            context.__exit__(None, None, None)
        self._in_precision.clear()
        self._loaders.clear()
        return [None] * len(objects)

    def end_training(self) -> None:
        """Leaves the group of processes. Call it once, after everything that needs the others."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _members() -> set[str]:
    own = {name for name in vars(AcceleratorView) if not name.startswith("_")}
    return own - {"behind"}
