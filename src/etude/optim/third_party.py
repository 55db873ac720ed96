"""Optimizers out of other packages, imported when they are asked for."""

from __future__ import annotations

from typing import Any

from torch import nn

from etude.errors import ConfigurationError
from etude.optim.recipe import ClassAndOptions, Recipe, Request, count, dtype, flag, number
from etude.optional import require


def _class(request: Request, module: str, name: str, install: str) -> Any:
    return getattr(require(module, f"optim='{request.name}'", install), name)


def adamw_xla(request: Request) -> ClassAndOptions:
    """AdamW of torch_xla that does not wait for the device."""
    cls = _class(request, "torch_xla.amp.syncfree", "AdamW", "torch_xla")
    return cls, {**request.rate, **request.adam}


def adamw_npu(request: Request) -> ClassAndOptions:
    """AdamW in one kernel of Huawei's processors."""
    cls = _class(request, "torch_npu.optim", "NpuFusedAdamW", "torch_npu")
    return cls, {**request.rate, **request.adam}


def anyprecision(request: Request) -> ClassAndOptions:
    """AdamW of torchdistx with moments in number formats of choice."""
    cls = _class(request, "torchdistx.optimizers", "AnyPrecisionAdamW", "torchdistx")
    defaults = {
        "use_kahan_summation": False,
        "momentum_dtype": dtype("float32"),
        "variance_dtype": dtype("float32"),
        "compensation_buffer_dtype": dtype("bfloat16"),
    }
    return cls, {**request.rate, **request.adam, **defaults, **request.given}


def torchao(request: Request) -> ClassAndOptions:
    """AdamW of torchao with moments in 4 or 8 bits."""
    name = "AdamW4bit" if request.name.endswith("4bit") else "AdamW8bit"
    cls = _class(request, "torchao.optim", name, "torchao")
    defaults = {"block_size": 256, "bf16_stochastic_round": False}
    return cls, {**request.rate, **request.adam, **defaults, **request.given}


def grokadamw(request: Request) -> ClassAndOptions:
    """GrokAdamW: AdamW that amplifies slowly changing gradients."""
    cls = resumable(_class(request, "grokadamw", "GrokAdamW", "grokadamw"))
    defaults = {
        "alpha_init": 0.98,
        "lamb": 2.0,
        "gamma": 0.1,
        "grokking_signal_decay_rate": 0.1,
        "gradient_clipping": 1.0,
    }
    return cls, {**request.rate, **request.changed_adam, **defaults, **request.given}


def resumable(cls: Any) -> Any:
    """GrokAdamW keeps its moments in the groups, by parameter object: a checkpoint of it would start them anew."""

    class Resumable(cls):  # type: ignore[misc]
        def state_dict(self) -> dict[str, Any]:
            saved: dict[str, Any] = super().state_dict()
            for target, group in zip(saved["param_groups"], self.param_groups, strict=True):
                moments = group.get("state", {})
                target["state"] = {i: moments[p] for i, p in enumerate(group["params"]) if p in moments}
            return saved

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            for group in self.param_groups:
                moments = enumerate(group.get("state", {}).items())
                # by number; in the reference's files by objects, in the order of the parameters
                numbered = [(key if isinstance(key, int) else n, value) for n, (key, value) in moments]
                group["state"] = {group["params"][n]: value for n, value in numbered}

    Resumable.__name__ = Resumable.__qualname__ = cls.__name__
    return Resumable


def stable_adamw(request: Request) -> ClassAndOptions:
    """StableAdamW: AdamW that clips each step (Wortsman et al., 2023)."""
    cls = _class(request, "optimi", "StableAdamW", "torch-optimi")
    defaults = {"decouple_lr": False, "max_lr": None, "kahan_sum": None}
    decay = {"weight_decay": request.args.weight_decay}
    return cls, {**request.rate, **request.adam, **decay, **defaults, **request.given}


def schedule_free(request: Request) -> ClassAndOptions:
    """Optimizers that need no decaying schedule (Defazio et al., 2024): choose lr_scheduler_type="constant"."""
    kind = request.name.removeprefix("schedule_free_")
    names = {"adamw": "AdamWScheduleFree", "radam": "RAdamScheduleFree", "sgd": "SGDScheduleFree"}
    cls = _class(request, "schedulefree", names[kind], "schedulefree")
    options = {**request.rate, "weight_decay": request.args.weight_decay}
    if kind != "sgd":
        options |= request.adam
    if kind != "radam":
        options["warmup_steps"] = _warmup_updates(request)
    return cls, {**options, "weight_lr_power": 2.0, "r": 0.0, **request.given}


def _warmup_updates(request: Request) -> float:
    """Updates of warm-up; a share of the run is only known where its length is."""
    args = request.args
    if 0 < args.warmup_steps < 1:
        if args.max_steps <= 0:
            raise ConfigurationError(
                f"optim='{request.name}' warms up by itself and needs a number of updates: set `warmup_steps` to one "
                f"(it is {args.warmup_steps}, a share of a run whose length only `max_steps` would tell)."
            )
        return int(args.get_warmup_steps(args.max_steps))
    return float(args.warmup_steps)


def bitsandbytes(request: Request) -> ClassAndOptions:
    """The 8-bit and paged optimizers of bitsandbytes."""
    name = request.name
    options: dict[str, Any] = {"optim_bits": 8 if "8bit" in name else 32}
    if "rmsprop" in name:
        cls, own = "RMSprop", request.given
    else:
        options["is_paged"] = name.startswith("paged")
        if "lion" in name:
            cls, own = "Lion", {"betas": request.adam["betas"]}
        elif "ademamix" in name:
            cls, own = "AdEMAMix", _ademamix(request)
        else:
            cls, own = "AdamW", request.adam
    found = _class(request, "bitsandbytes.optim", cls, "bitsandbytes")
    return found, {**request.rate, **own, **options}


def _ademamix(request: Request) -> dict[str, Any]:
    given = dict(request.given)
    first, second = request.adam["betas"]
    betas = (given.pop("beta1", first), given.pop("beta2", second), given.pop("beta3", 0.9999))
    return {"betas": betas, "alpha": 5.0, "eps": request.args.adam_epsilon, **given}


def keep_embeddings_in_32_bits(model: nn.Module) -> None:
    """Tells bitsandbytes that the state of embeddings is not to be kept in 8 bits, which makes training unstable."""
    manager = require("bitsandbytes.optim", "an 8-bit optimizer").GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})


ADEMAMIX = {
    "beta1": number, "beta2": number, "beta3": number, "alpha": number, "eps": number, "t_alpha": count,
    "t_beta3": count,
}  # fmt: skip
RECIPES = {
    "adamw_torch_xla": Recipe(adamw_xla),
    "adamw_torch_npu_fused": Recipe(adamw_npu),
    "adamw_anyprecision": Recipe(
        anyprecision,
        {
            "use_kahan_summation": flag,
            "momentum_dtype": dtype,
            "variance_dtype": dtype,
            "compensation_buffer_dtype": dtype,
        },
    ),
    **dict.fromkeys(
        ("adamw_torch_4bit", "adamw_torch_8bit"),
        Recipe(torchao, {"block_size": count, "bf16_stochastic_round": flag}),
    ),
    "grokadamw": Recipe(
        grokadamw,
        dict.fromkeys(
            ("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"), number
        ),
    ),
    "stable_adamw": Recipe(stable_adamw, {"max_lr": number, "kahan_sum": flag, "decouple_lr": flag}),
    **dict.fromkeys(
        ("schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd"),
        Recipe(schedule_free, {"weight_lr_power": number, "r": number}),
    ),
    **dict.fromkeys(
        (
            "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_32bit", "lion_8bit",
            "paged_lion_32bit", "paged_lion_8bit",
        ),
        Recipe(bitsandbytes),
    ),
    **dict.fromkeys(
        ("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"),
        Recipe(bitsandbytes, ADEMAMIX),
    ),
    **dict.fromkeys(
        ("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
        Recipe(bitsandbytes, {"alpha": number, "eps": number, "momentum": number, "centered": flag}),
    ),
}  # fmt: skip
