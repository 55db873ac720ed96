"""Installing etude in transformers' place: in processes of their own, as it concerns all of one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

INSTALLED = """
import logging, pickle, sys
import etude, etude.compat
import transformers.trainer_callback                 # loaded before: patched in place
from transformers import TensorType                  # not etude's business
etude.compat.install()
etude.compat.install()                               # a second time does nothing
assert etude.compat.is_installed()

import transformers
from transformers import EarlyStoppingCallback, Seq2SeqTrainer, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME, get_parameter_names, has_length
from transformers.trainer_callback import CallbackHandler, ExportableState
from transformers.trainer_seq2seq import Seq2SeqTrainer as again
from transformers.training_args import ParallelMode
from transformers.trainer_utils import IntervalStrategy
from etude.core.names import ParallelMode as own_mode

assert Trainer is etude.Trainer and transformers.trainer.Trainer is etude.Trainer
assert TrainingArguments is etude.TrainingArguments and TrainerCallback is etude.TrainerCallback
assert Seq2SeqTrainer is again is etude.Seq2SeqTrainer
assert EarlyStoppingCallback is etude.EarlyStoppingCallback and IntervalStrategy is etude.IntervalStrategy
assert ParallelMode is own_mode
assert CallbackHandler.__module__ == ExportableState.__module__.replace("state", "events")
assert (TRAINER_STATE_NAME, TRAINING_ARGS_NAME) == ("trainer_state.json", "training_args.bin")
assert has_length([1])
from transformers.integrations import TensorBoardCallback
assert issubclass(TensorBoardCallback, etude.TrainerCallback)

# accelerate's state, set up with the arguments
from accelerate import PartialState
from accelerate.logging import get_logger
from accelerate.state import AcceleratorState
arguments = TrainingArguments("out", use_cpu=True)
get_logger("x").info("works")
assert isinstance(arguments.distributed_state, PartialState) and AcceleratorState().mixed_precision == "no"
TrainingArguments("out", use_cpu=True, bf16=True)
assert AcceleratorState().mixed_precision == "bf16"
pickle.loads(pickle.dumps(arguments))
assert "transformers._reference_trainer" not in sys.modules

# a name that only the file of the reference has, and a line that says so
lines = []
handler = logging.Handler()
handler.emit = lambda record: lines.append(record.getMessage())
logging.getLogger("etude.compat.stubs").addHandler(handler)
assert transformers.trainer.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
assert any("transformers' own file" in line for line in lines) == ("transformers._reference_trainer" in sys.modules)

etude.compat.uninstall()
assert not etude.compat.is_installed()
assert "transformers.trainer" not in sys.modules
from transformers import Trainer as theirs
assert theirs is not etude.Trainer and theirs.__module__ == "transformers.trainer"
assert transformers.trainer_callback.TrainerCallback is not etude.TrainerCallback
assert transformers.TrainingArguments is not etude.TrainingArguments
"""

LATE = """
import sys, types
early = types.ModuleType("early")
exec("from transformers import TrainingArguments", vars(early))
sys.modules["early"] = early
import etude.compat
try:
    etude.compat.install()
except etude.errors.SetupError as error:
    assert "early (TrainingArguments)" in str(error) and "python -m etude.compat" in str(error), error
else:
    raise AssertionError("a late installation went through")
assert not etude.compat.is_installed()
"""

SCRIPT = """
import sys
from transformers import Trainer, TrainingArguments
import helper_beside_it
print(Trainer.__module__, sys.argv[1:], __name__, TrainingArguments("out").__class__.__module__)
"""

SUITE = """
from transformers import Trainer
from conftest import FROM_CONFTEST
def test_on_etude():
    assert Trainer.__module__ == FROM_CONFTEST == "etude.trainer"
"""


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_names_are_replaced_and_put_back(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(INSTALLED, encoding="utf-8")
    run(tmp_path, "script.py")


@pytest.mark.slow
def test_a_late_installation_names_who_was_earlier(tmp_path: Path) -> None:
    run(tmp_path, "-c", LATE)


@pytest.mark.slow
def test_scripts_and_modules_run_unchanged(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "helper_beside_it.py").write_text("", encoding="utf-8")
    expected = "etude.trainer ['--a', 'b'] __main__ etude.arguments.training"
    assert run(tmp_path, "-m", "etude.compat", "script.py", "--a", "b").strip() == expected
    assert run(tmp_path, "-m", "etude.compat", "-m", "script", "--a", "b").strip() == expected


@pytest.mark.slow
def test_a_suite_runs_with_the_plugin(tmp_path: Path) -> None:
    conftest = "from transformers import Trainer\nFROM_CONFTEST = Trainer.__module__\n"
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    (tmp_path / "test_it.py").write_text(textwrap.dedent(SUITE), encoding="utf-8")
    options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "etude.compat.pytest_plugin")
    assert "1 passed" in run(tmp_path, *options)


def test_without_arguments_the_command_says_how() -> None:
    done = subprocess.run([sys.executable, "-m", "etude.compat"], text=True, capture_output=True, timeout=60)
    assert done.returncode == 1
    assert "usage: python -m etude.compat script.py" in done.stderr
