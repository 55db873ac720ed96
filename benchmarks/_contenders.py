"""The loops that `step_overhead.py` compares. Each trains one `Task` and pauses where the gate says so."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from _harness import BlockGate
from _workloads import LEARNING_RATE, SEED, WEIGHT_DECAY, Task, collate

Contender = Callable[[Task, BlockGate], None]


def run_bare(task: Task, gate: BlockGate) -> None:
    """What a careful person writes by hand."""
    variant, model, optimizer = task.variant, task.model, task.optimizer()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, task.linear_decay)
    batches = iter(task.loader())
    running_loss = torch.zeros(())
    model.train()
    for step in range(task.num_steps):
        if step == gate.next_step:
            gate.pause()
        for _ in range(variant.accumulation):
            loss = model(**next(batches))["loss"] / variant.accumulation
            loss.backward()
            if variant.logging_steps:
                running_loss += loss.detach()
        if variant.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), variant.max_grad_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad(set_to_none=True)
        if variant.logging_steps and (step + 1) % variant.logging_steps == 0:
            print(
                {
                    "step": step + 1,
                    "loss": running_loss.item() / variant.logging_steps,
                    "lr": scheduler.get_last_lr(),
                }
            )
            running_loss.zero_()


def run_bare_tuned(task: Task, gate: BlockGate) -> None:
    """The floor: no scheduler object, one kernel call for the optimizer, lists of tensors collected once."""
    variant, model = task.variant, task.model
    batches, backward = iter(task.loader()), torch.autograd.backward
    update = FusedAdamW(task.optimizer())
    parameters = update.parameters
    log_loss: list[torch.Tensor] = []
    model.train()
    for step in range(task.num_steps):
        if step == gate.next_step:
            gate.pause()
        for _ in range(variant.accumulation):
            loss = model(**next(batches))["loss"]
            backward(loss / variant.accumulation if variant.accumulation > 1 else loss)
            if variant.logging_steps:
                log_loss.append(loss.detach())
        if variant.max_grad_norm:
            clip_by_foreach([p.grad for p in parameters], variant.max_grad_norm)
        update.step(LEARNING_RATE * task.linear_decay(step))
        for parameter in parameters:
            parameter.grad = None
        if variant.logging_steps and (step + 1) % variant.logging_steps == 0:
            print({"step": step + 1, "loss": torch.stack(log_loss).mean().item()})
            log_loss.clear()


class FusedAdamW:
    """`torch._fused_adamw_` on lists collected once: `AdamW.step` without its Python of every call."""

    def __init__(self, optimizer: torch.optim.AdamW) -> None:
        """Collect parameters and states of `optimizer`'s groups; every parameter must receive a gradient."""
        self.groups = [(group["params"], group) for group in optimizer.param_groups]
        self.parameters = [p for parameters, _ in self.groups for p in parameters]
        self.first = {p: torch.zeros_like(p) for p in self.parameters}
        self.second = {p: torch.zeros_like(p) for p in self.parameters}
        self.steps = {p: torch.zeros(()) for p in self.parameters}
        self.arguments = [self._lists(parameters) for parameters, _ in self.groups]
        self.all_steps = list(self.steps.values())

    def _lists(self, parameters: list[torch.Tensor]) -> tuple[list[torch.Tensor], ...]:
        states = (self.first, self.second)
        averages = tuple([state[p] for p in parameters] for state in states)
        return (*averages, [], [self.steps[p] for p in parameters])

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One update with the gradients that the parameters hold."""
        torch._foreach_add_(self.all_steps, 1)
        for (parameters, group), lists in zip(self.groups, self.arguments, strict=True):
            torch._fused_adamw_(
                parameters,
                [p.grad for p in parameters],
                *lists,
                lr=learning_rate,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )


def clip_by_foreach(gradients: list[Any], max_norm: float) -> None:
    """Scale `gradients` so that their common norm is at most `max_norm`, in three calls."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp_(max=1.0))


def trainer_contender(library: str) -> Contender:
    """Train with the `Trainer` of `library`: the same script for transformers and for etude."""

    def run(task: Task, gate: BlockGate) -> None:
        module = importlib.import_module(library)

        class PauseBetweenBlocks(module.TrainerCallback):  # type: ignore[misc, name-defined]
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == gate.next_step:
                    gate.pause()

        with tempfile.TemporaryDirectory() as folder:
            trainer = module.Trainer(
                model=task.model,
                args=module.TrainingArguments(**trainer_arguments(task, folder)),
                train_dataset=task.dataset,
                data_collator=collate,
                callbacks=[PauseBetweenBlocks()],
            )
            trainer.train()

    return run


def trainer_arguments(task: Task, folder: str) -> dict[str, Any]:
    """`TrainingArguments` that ask for what `run_bare` does and nothing else."""
    variant = task.variant
    return {
        "output_dir": folder,
        "max_steps": task.num_steps,
        "per_device_train_batch_size": variant.batch_size,
        "gradient_accumulation_steps": variant.accumulation,
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "max_grad_norm": variant.max_grad_norm,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch_fused",
        "logging_strategy": "steps" if variant.logging_steps else "no",
        "logging_steps": variant.logging_steps or 500,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": True,
        "seed": SEED,
    }


def run_accelerate(task: Task, gate: BlockGate) -> None:
    """A loop over accelerate, as its documentation shows it."""
    import accelerate

    variant = task.variant
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=variant.accumulation)
    optimizer = task.optimizer()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, task.linear_decay)
    model, optimizer, loader, scheduler = accelerator.prepare(task.model, optimizer, task.loader(), scheduler)
    running_loss, step = torch.zeros(()), 0
    model.train()
    for batch in loader:
        if step == gate.next_step:
            gate.pause()
        with accelerator.accumulate(model):
            loss = model(**batch)["loss"]
            accelerator.backward(loss)
            if variant.max_grad_norm and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), variant.max_grad_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        running_loss += loss.detach()
        step += accelerator.sync_gradients
        if variant.logging_steps and step % variant.logging_steps == 0:
            print({"step": step, "loss": running_loss.item() / variant.logging_steps})
            running_loss.zero_()


def run_lightning(task: Task, gate: BlockGate) -> None:
    """Lightning's `Trainer` with everything switched off that the variant does not ask for."""
    import lightning

    variant = task.variant

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = task.model

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss: torch.Tensor = self.inner(**batch)["loss"]
            if variant.logging_steps:
                self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = task.optimizer()
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, task.linear_decay)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    class PauseBetweenBlocks(lightning.Callback):  # type: ignore[misc]
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == gate.next_step:
                gate.pause()

    with tempfile.TemporaryDirectory() as folder:
        from lightning.pytorch.loggers import CSVLogger

        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=task.num_steps,
            accumulate_grad_batches=variant.accumulation,
            gradient_clip_val=variant.max_grad_norm or None,
            logger=CSVLogger(folder) if variant.logging_steps else False,
            log_every_n_steps=variant.logging_steps or 1_000_000,
            callbacks=[PauseBetweenBlocks()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(Module(), task.loader())


CONTENDERS: dict[str, Contender] = {
    "bare": run_bare,
    "bare_tuned": run_bare_tuned,
    "transformers": trainer_contender("transformers"),
    "etude": trainer_contender("etude"),
    "accelerate": run_accelerate,
    "lightning": run_lightning,
}
