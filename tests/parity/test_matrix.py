"""Kinds of models times options: is everything that a training shows the same in both libraries?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests import helpers
from tests.parity.families import KINDS
from tests.parity.options import OPTIONS
from tests.parity.runner import (
    LIBRARIES,
    assert_same_outcome,
    assert_same_rows,
    build_trainer,
    run,
    run_both,
)

# Which options each kind of model is tried with; those before the bar are in the fast suite.
TABLE = {
    "dict": """
        unclipped clipped fractional-epochs max-steps stream own-optimizers plateau own-loss evaluated-late
        evaluated-by-ratio logged-by-epoch batchwise two-sets best-at-end only-best stopped-early steered
        | accumulated short-window drop-last sequential data-seed loading-processes own-count bar memory-figures
        labels-named cosine-warmup constant constant-warmup-ratio restarts polynomial inverse-sqrt min-lr
        min-lr-warmup stable-decay greedy adamw sgd adagrad rmsprop adafactor own-optimizer optimizer-class
        compiled-eager compiled-aot bf16 bf16-evaluation made-anew evaluated-first
        evaluated-late-epochs logged-first not-logged kept-apart reduced loss-only left-at-once
        saved-by-ratio lowest-at-end worst-at-end limited
        saved-to-restart saved-by-steps saved-by-epoch
    """,
    "tuple": "stopped-early | accumulated reduced kept-apart best-at-end bf16 own-count made-anew",
    "multi-output": "reduced | saved-by-epoch accumulated bf16",
    "regression": "accumulated | saved-by-epoch lowest-at-end bf16 adafactor plateau",
    "bert": """
        tokens arrow smoothed-accumulated noisy
        | tokens-without-padding recomputed recomputed-every-second compiled-eager bf16 bf16-evaluation
        best-at-end accumulated clipped loading-processes memory-figures stopped-early adafactor extras batchwise
    """,
    "tags": "| accumulated smoothed best-at-end noisy bf16 recomputed",
    "questions": "accumulated | best-at-end bf16 smoothed labels-named noisy",
    "multi-label": "accumulated | best-at-end bf16 saved-by-epoch",
    "frozen": "clipped | accumulated saved-by-steps noisy recomputed adafactor",
    "vit": "accumulated | only-best smoothed recomputed tokens bf16 saved-by-epoch",
    "gpt2": """
        recomputed smoothed
        | accumulated tokens tokens-without-padding noisy bf16 bf16-evaluation saved-by-steps
        compiled-eager short-window
    """,
    "llama": """
        accumulated noisy
        | smoothed smoothed-accumulated tokens recomputed recomputed-every-second compiled-eager bf16 saved-by-epoch
        own-count short-window clipped
    """,
    "lora": "saved-by-steps | accumulated smoothed recomputed bf16 best-at-end noisy",
    "t5": "smoothed | accumulated recomputed bf16 saved-by-epoch tokens smoothed-accumulated adafactor",
    "bart": "| accumulated smoothed recomputed bf16 saved-by-epoch noisy",
    "tied": "accumulated | noisy bf16 clipped",
}


def _configurations() -> list[object]:
    found = []
    for kind, options in TABLE.items():
        fast, _, slow = options.partition("|")
        for names, marks in ((fast, ()), (slow, pytest.mark.slow)):
            found += [pytest.param(kind, name, id=f"{kind}-{name}", marks=marks) for name in names.split()]
    return found


@pytest.mark.filterwarnings(
    r"ignore:The \.grad attribute of a Tensor:UserWarning"
)  # PyTorch's own, while compiling
@pytest.mark.parametrize(("kind", "option"), _configurations())
def test_training_equals_the_reference(kind: str, option: str, tmp_path: Path) -> None:
    """Log rows, weights, results, the trainer's state and that of every checkpoint agree."""
    case = OPTIONS[option](KINDS[kind])
    theirs, ours = run_both(case, tmp_path)
    assert_same_outcome(ours, theirs, case.relative)


# A stop in the middle of an epoch and of a window's worth of rows, at its end, and with all that is restored.
RESUMED = {
    "dict": ("saved-by-steps", "saved-by-epoch", "best-at-end", "stopped-early", "saved-to-restart"),
    "bert": ("saved-by-epoch", "best-at-end"),
    "llama": ("saved-by-steps",),
    "lora": ("saved-by-steps",),
    "t5": ("saved-by-steps",),
}


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        pytest.param(
            kind, name, id=f"{kind}-{name}", marks=() if name == "stopped-early" else pytest.mark.slow
        )
        for kind, options in RESUMED.items()
        for name in options
    ],
)
def test_resumed_training_equals_the_reference(kind: str, option: str, tmp_path: Path) -> None:
    """Each library goes on from its own first checkpoint, and both arrive at the same."""
    case = OPTIONS[option](KINDS[kind]).having(include_num_input_tokens_seen="all", seed=3)
    case = replace(case, arguments={"restore_callback_states_from_checkpoint": True, **case.arguments})
    resumed = []
    for outcome in run_both(case, tmp_path / "whole"):
        name = type(outcome.trainer).__module__.split(".")[0]
        first = min(outcome.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        resumed.append(run(name, case, tmp_path / "resumed", resume=str(first)))
    theirs, ours = resumed
    # the last row and the result hold the training loss, which the reference takes over the steps of the last call
    assert_same_rows(ours.log_history[:-1], theirs.log_history[:-1])
    assert_same_outcome(ours, theirs, log=False)


def test_every_kind_and_option_is_tried() -> None:
    """The table leaves nothing out."""
    tried = {name for options in TABLE.values() for name in options.replace("|", " ").split()}
    assert tried == OPTIONS.keys()
    assert TABLE.keys() == KINDS.keys()


# A plain module does not turn the numbers of its inputs into its own format, neither here nor there.
PLAIN_INPUTS = ("dict", "tuple", "multi-output", "regression")


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        pytest.param(kind, option, id=f"{kind}-{option}", marks=() if option == "none" else pytest.mark.slow)
        for kind in KINDS
        for option in ("none", "bf16-evaluation", "bf16")
        if not (option == "bf16-evaluation" and kind in PLAIN_INPUTS)
    ],
)
def test_evaluation_alone_equals_the_reference(kind: str, option: str, tmp_path: Path) -> None:
    """`evaluate()` and `predict()` of a model that was not trained here."""
    case = KINDS[kind] if option == "none" else OPTIONS[option](KINDS[kind])
    rows = {}
    for name in LIBRARIES:
        with helpers.library(name) as lib:
            trainer = build_trainer(lib, case, tmp_path / name)
            metrics = [trainer.evaluate(), trainer.predict(case.eval_rows()).metrics]
            rows[name] = [{"step": 0, **row} for row in (*metrics, *trainer.state.log_history)]
    without = [
        {key: row[key] for key in row if "preparation_time" not in key} for row in rows["transformers"]
    ]
    assert_same_rows(rows["etude"], without, case.relative)
