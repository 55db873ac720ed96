"""The start-up report: every number that follows from the arguments, before the first step."""

from __future__ import annotations

from dataclasses import dataclass

from etude.core.state import Plan
from etude.report.text import count, short_count


@dataclass(frozen=True)
class Facts:
    """What the report says about a run."""

    model: str
    num_parameters: int
    num_trainable: int
    plan: Plan
    micro_batch: int
    accumulation_steps: int
    world_size: int
    precision: str
    device: str
    strategy: str
    output_dir: str
    resumed_from: str | None
    first_step: int


def startup_report(facts: Facts) -> str:
    """The report as a few aligned lines."""
    lines = [
        ("model", _model(facts)),
        ("data", _data(facts)),
        ("updates", _updates(facts)),
        ("global batch", _batch(facts)),
        ("device", f"{facts.device}, {facts.precision}, {facts.strategy}"),
        ("saved to", facts.output_dir),
    ]
    if facts.resumed_from is not None:
        lines.append(("resumed", f"{facts.resumed_from}, at step {count(facts.first_step)}"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(["Training", *(f"  {name:<{width}}  {text}" for name, text in lines)])


def _model(facts: Facts) -> str:
    if facts.num_trainable == facts.num_parameters:
        return f"{facts.model}, {short_count(facts.num_parameters)} parameters, all trained"
    share = facts.num_trainable / max(1, facts.num_parameters)
    return (
        f"{facts.model}, {short_count(facts.num_parameters)} parameters, "
        f"{short_count(facts.num_trainable)} trained ({share:.1%})"
    )


def _data(facts: Facts) -> str:
    if facts.plan.micro_steps_per_epoch is None:
        return "a stream of unknown length"
    return f"{count(facts.plan.num_examples)} samples"


def _updates(facts: Facts) -> str:
    plan = facts.plan
    if plan.micro_steps_per_epoch is None:
        return f"{count(plan.max_steps)}"
    epochs = plan.max_steps / plan.updates_per_epoch
    return f"{count(plan.max_steps)} ({epochs:g} epochs of {count(plan.updates_per_epoch)})"


def _batch(facts: Facts) -> str:
    parts = [f"{facts.micro_batch} on a device"]
    if facts.accumulation_steps > 1:
        parts.append(f"{facts.accumulation_steps} accumulated")
    if facts.world_size > 1:
        parts.append(f"{facts.world_size} processes")
    made_of = " x ".join(parts) if len(parts) > 1 else parts[0]
    return f"{count(facts.plan.global_batch_size)} samples = {made_of}"
