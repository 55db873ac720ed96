"""Does the parser fill dataclasses as the reference's does, and say what is wrong?"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest

import etude
from etude import TrainingArguments
from etude.arguments.parser import HfArg, HfArgumentParser
from etude.arguments.seq2seq import Seq2SeqTrainingArguments
from etude.errors import ConfigurationError, MissingPackageError, SetupError
from tests import helpers


class Colour(Enum):
    """A plain enumeration."""

    RED = "red"
    BLUE = 7


class Shape(str, Enum):
    """An enumeration of text."""

    ROUND = "round"
    FLAT = "flat"


@dataclass
class Basics:
    """One field of each simple kind."""

    count: int
    rate: float = 0.5
    name: str = field(default="x", metadata={"help": "A name, 100%% of it."})
    on: bool = True
    off: bool = False
    bare: bool = field(default=None)  # type: ignore[arg-type]


@dataclass
class Optionals:
    """What may be left out."""

    count: Optional[int] = None  # noqa: UP045
    rate: float | None = field(default=None, metadata={"help": "The rate."})
    name: Union[str, None] = None  # noqa: UP007
    flag: bool | None = None
    counts: list[int] | None = None
    words: Optional[list[str]] = field(default_factory=list)  # noqa: UP045
    path: Path | None = None


@dataclass
class Lists:
    """Several values."""

    counts: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=lambda: [0.1, 0.2])
    words: list[str] = field(default_factory=lambda: ["a"])


@dataclass
class Choices:
    """Closed sets."""

    level: Literal["low", "high", 3] = "low"
    colour: Colour = Colour.RED
    shape: Shape | str = "flat"
    maybe: Literal["a", "b"] | None = None

    def __post_init__(self) -> None:
        self.colour = Colour(self.colour)


@dataclass
class Aliased:
    """Names besides its own."""

    _argument_group_name = "named in another way"
    long_name: str = HfArg(default="x", aliases=["--short", "-s"], help="Has a short name.")
    other: int = HfArg(default=1, aliases="-o")
    made: list[str] = HfArg(default_factory=lambda: ["made"])  # noqa: RUF009


@dataclass
class Required:
    """Nothing has a default."""

    names: list[str]
    shape: Shape
    flag: bool
    level: Literal["low", "high"]


CASES: list[tuple[list[type], str]] = [
    ([Basics], "--count 3"),
    ([Basics], "--count 3 --rate 1e-4 --name a_b --on false --off"),
    ([Basics], "--count=3 --no_on --off yes"),
    ([Basics], "--count 3 --no-on --off n --on t"),
    ([Basics], "--coun 3 --nam y"),
    ([Optionals], ""),
    ([Optionals], "--count 3 --rate 2 --name n --flag false --counts 1 2 --words a b --path a/b"),
    ([Optionals], "--flag true --words"),
    ([Lists], ""),
    ([Lists], "--counts 1 2 --rates 3 --words a b c"),
    ([Lists], "--counts 1 x"),
    ([Choices], "--level 3 --colour 7 --shape round --maybe b"),
    ([Choices], "--level low --colour red"),
    ([Choices], "--level 4"),
    ([Choices], "--shape square"),
    ([Aliased], "--short a -o 3 --made b"),
    ([Aliased], "--long-name a -s b"),
    ([Required], "--names a b --shape flat --flag --level low"),
    ([Required], "--names a b --shape flat --level low"),
    ([Required], "--names a --level low"),
    ([Basics], "--count 3 --rate x"),
    ([Basics], "--count 3 --off perhaps"),
    ([Basics], "--count 3 --unknown 4"),
    ([Basics, Lists], "--count 3 --counts 1 2"),
    ([Lists, Aliased], "--other 3"),
]


def outcome(
    parser_class: Any, types: list[type], line: str, capsys: pytest.CaptureFixture[str], **options: Any
) -> Any:
    """What parsing returns, or the class of what it raises."""
    try:
        return parser_class(types).parse_args_into_dataclasses(
            line.split(), look_for_args_file=False, **options
        )
    except (SystemExit, ValueError) as error:
        return type(error).__mro__[-4:]
    finally:
        capsys.readouterr()


@pytest.mark.parametrize(("types", "line"), CASES, ids=str)
def test_command_lines_mean_what_they_mean_to_the_reference(
    types: list[type], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import HfArgumentParser as Theirs

    # the reference writes into the dataclasses that it is given
    copies = [dataclasses.make_dataclass(t.__name__, [], bases=(t,)) for t in types]
    expected = outcome(Theirs, copies, line, capsys)
    found = outcome(HfArgumentParser, types, line, capsys)
    if isinstance(expected[0], type):
        assert found == expected
    else:
        assert [dataclasses.asdict(value) for value in found] == [dataclasses.asdict(v) for v in expected]


@pytest.mark.parametrize("name", ["transformers", "etude"])
def test_more_options_and_words_that_are_left_come_back(name: str) -> None:
    with helpers.library(name) as lib:
        parser = lib.HfArgumentParser(Basics, description="mine")
        parser.add_argument("--extra", type=int, default=1)
        found, namespace, rest = parser.parse_args_into_dataclasses(
            ["--count", "3", "--extra", "2", "--more", "5"],
            return_remaining_strings=True,
            look_for_args_file=False,
        )
    assert (found.count, namespace, rest) == (3, argparse.Namespace(extra=2), ["--more", "5"])


def test_help_shows_groups_defaults_and_meanings(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib, pytest.raises(SystemExit):
            lib.HfArgumentParser([Basics, Aliased], prog="p").parse_args(["--help"])
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "named in another way" in texts[1]
    assert "Has a short name. (default: x)" in texts[1]


# --- files of arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transformers", "etude"])
def test_files_of_arguments_come_before_the_command_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.args").write_text("--count 1\n--rate 0.1 --name beside")
    (tmp_path / "one").write_text("--rate 0.2 --name one")
    (tmp_path / "two").write_text("--name two")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "script.py"), "--rate", "9"])
    files = ["--file", str(tmp_path / "one"), "--file", str(tmp_path / "two"), "--file", "nowhere"]
    with helpers.library(name) as lib:
        parser = lib.HfArgumentParser(Basics)
        beside = parser.parse_args_into_dataclasses()[0]
        named = parser.parse_args_into_dataclasses(["--count", "5", *files], args_file_flag="--file")[0]
        given = parser.parse_args_into_dataclasses(["--count", "5"], args_filename=str(tmp_path / "two"))[0]
    assert (beside.count, beside.rate, beside.name) == (1, 9, "beside")
    assert (named.count, named.rate, named.name) == (5, 0.2, "two")
    assert (given.count, given.rate, given.name) == (5, 0.5, "two")


def test_quotes_keep_words_of_a_file_together(tmp_path: Path) -> None:
    file = tmp_path / "some.args"
    file.write_text("""--count 3 --name "two words" # 'no comment' C:\\path""")
    parser = HfArgumentParser(Basics)
    *found, rest = parser.parse_args_into_dataclasses([], True, args_filename=file)
    assert found[0].name == "two words"
    assert rest == ["#", "no comment", "C:\\path"]
    file.write_text("--name it's")
    with pytest.raises(ConfigurationError, match="some.args is not closed"):
        parser.parse_args_into_dataclasses([], args_filename=file)


# --- what is wrong ------------------------------------------------------------------------------------------------


def test_a_misspelt_option_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigurationError, match=r"\['--lerning_rate', '1'\] Did you mean '--learning_rate'"):
        HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(["--lerning_rate", "1"])


def test_types_that_text_cannot_be_told_apart_for_are_refused() -> None:
    mixed = dataclasses.make_dataclass("Mixed", [("value", int | float, 1)])
    with pytest.raises(ValueError, match="'value'.*Optional"):
        HfArgumentParser(mixed)


def test_annotations_that_cannot_be_resolved_are_an_error() -> None:
    lost = dataclasses.make_dataclass("Lost", [("value", "Nothing", 1)])
    with pytest.raises(SetupError, match="Lost.*Nothing"):
        HfArgumentParser(lost)
    with pytest.raises(RuntimeError):
        HfArgumentParser(lost)


# --- dictionaries and files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transformers", "etude"])
def test_dictionaries_and_files_fill_several_dataclasses(name: str, tmp_path: Path) -> None:
    values = {"count": 3, "rate": 0.1, "counts": [1, 2]}
    (tmp_path / "a.json").write_text(json.dumps(values))
    (tmp_path / "a.yaml").write_text("count: 3\nrate: 0.1\ncounts: [1, 2]\n")
    expected = (Basics(3, 0.1), Lists([1, 2]))
    with helpers.library(name) as lib:
        parser = lib.HfArgumentParser((Basics, Lists))
        assert parser.parse_dict(values) == expected
        assert parser.parse_json_file(tmp_path / "a.json") == expected
        assert parser.parse_yaml_file(str(tmp_path / "a.yaml")) == expected
        assert parser.parse_dict({**values, "other": 1}, allow_extra_keys=True) == expected
        with pytest.raises(ValueError, match="other"):
            parser.parse_dict({**values, "other": 1})


def test_an_unknown_key_is_answered_with_the_right_one() -> None:
    with pytest.raises(ConfigurationError, match="lerning_rate.*Did you mean 'learning_rate'"):
        HfArgumentParser(TrainingArguments).parse_dict({"lerning_rate": 1})


def test_text_in_files_is_brought_to_the_type_of_its_field(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "learning_rate: 1e-4\nmax_steps: 1e3\nbf16: 'yes'\nlabel_names: [a]\nrun_name: '7'\n"
        "save_total_limit: '2'\ntf32: 'off'\nwarmup_steps: 0.1\nlogging_steps: 10\n"
    )
    with pytest.raises(ConfigurationError, match="tf32"):
        HfArgumentParser(TrainingArguments).parse_yaml_file(file)
    file.write_text(file.read_text().replace("tf32: 'off'\n", ""))
    (args,) = HfArgumentParser(TrainingArguments).parse_yaml_file(file)
    expected = {
        "learning_rate": 1e-4, "max_steps": 1000, "bf16": True, "label_names": ["a"], "run_name": "7",
        "save_total_limit": 2, "warmup_steps": 0.1, "logging_steps": 10,
    }  # fmt: skip
    assert {name: getattr(args, name) for name in expected} == expected
    assert type(args.max_steps) is int


def test_yaml_names_the_package_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingPackageError, match="pip install pyyaml"):
        HfArgumentParser(Basics).parse_yaml_file(tmp_path / "a.yaml")


# --- training arguments -------------------------------------------------------------------------------------------

LINES = [
    "--output_dir out --learning_rate 1e-4 --eval_strategy steps --eval_steps 0.1 --bf16 --label_names a b",
    "--output_dir out --no_remove_unused_columns --lr_scheduler_type cosine --optim sgd --report_to none",
    '--output_dir out --lr_scheduler_kwargs {"num_cycles":2} --lr_scheduler_type cosine --max_steps 7',
    "--output-dir out --per-device-train-batch-size 3 --disable_tqdm true --include_for_metrics inputs loss",
    "--activation_checkpointing true --torch_compile_backend eager --save_strategy epoch --save_total_limit 2",
    "--optim_target_modules all-linear --optim galore_adamw --metric_for_best_model f1 --greater_is_better no",
    "--accelerator_config {} --seed 1 --data_seed 2 --warmup_steps 0.1 --max_grad_norm 0 --tf32 false",
]


@pytest.mark.parametrize("line", LINES)
def test_training_arguments_are_read_as_by_the_reference(line: str) -> None:
    found = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            (args,) = lib.HfArgumentParser(lib.TrainingArguments).parse_args_into_dataclasses(
                [*line.split(), "--use_cpu"], look_for_args_file=False
            )
        found.append(args.to_dict())
    theirs, ours = found
    left_out = {"restore_callback_states_from_checkpoint", "hub_token", "accelerator_config", "disable_tqdm"}
    assert {k: v for k, v in theirs.items() if k not in left_out} == {
        k: ours[k] for k in theirs if k not in left_out and k in ours
    }


def test_what_the_reference_does_not_understand_either_way() -> None:
    """Options whose annotation the reference reads as another type, or wants a value for."""
    line = "--include_num_input_tokens_seen non_padding --activation_checkpointing --liger_kernel_config {}"
    (args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(line.split())
    assert args.include_num_input_tokens_seen == "non_padding"
    assert args.activation_checkpointing
    assert args.liger_kernel_config == {}
    (args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(
        ["--include_num_input_tokens_seen"]
    )
    assert args.include_num_input_tokens_seen == "all"


@dataclass
class WithOlderName:
    """A dataclass of a script, which has a name that was an argument's."""

    group_by_length: bool = field(default=True, metadata={"help": "Its own."})


def test_command_lines_for_version_4_are_understood() -> None:
    line = (
        "--evaluation_strategy epoch --warmup_ratio 0.1 --no_cuda --overwrite_output_dir --fp16_opt_level O2"
    )
    with pytest.warns(FutureWarning) as caught:
        own, args = HfArgumentParser([WithOlderName, TrainingArguments]).parse_args_into_dataclasses(
            line.split()
        )
    assert (args.eval_strategy, args.warmup_steps, args.use_cpu, args.overwrite_output_dir) == (
        "epoch", 0.1, True, True,
    )  # fmt: skip
    assert own.group_by_length
    assert len(caught) == 5


def test_a_name_that_a_script_uses_for_itself_is_left_to_it() -> None:
    parser = HfArgumentParser([WithOlderName, TrainingArguments])
    parser.add_argument("--warmup_ratio", type=float, default=0.0)
    own, args, namespace = parser.parse_args_into_dataclasses(["--group_by_length", "no"])
    assert (own.group_by_length, args.train_sampling_strategy) == (False, "random")
    assert namespace.warmup_ratio == 0.0


def test_dictionaries_for_version_4_are_understood() -> None:
    with pytest.warns(FutureWarning, match="eval_strategy"):
        (args,) = HfArgumentParser(TrainingArguments).parse_dict({"evaluation_strategy": "epoch"})
    assert args.eval_strategy == "epoch"


def command_line(args: TrainingArguments) -> list[str]:
    """The words that say what is not a default."""
    line = []
    for f in dataclasses.fields(args):
        value = args.to_dict()[f.name]
        if value == f.default or value in (None, [], {}, ""):
            continue
        words = (
            value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        )
        line += [f"--{f.name}", *map(str, words)]
    return line


@pytest.mark.parametrize("cls", [TrainingArguments, Seq2SeqTrainingArguments])
def test_arguments_are_the_same_on_every_way_round(cls: type[TrainingArguments], tmp_path: Path) -> None:
    import yaml

    args = cls(
        "out", learning_rate=3e-4, eval_strategy="steps", eval_steps=0.25, save_strategy="best",
        metric_for_best_model="f1", lr_scheduler_type="cosine", lr_scheduler_kwargs={"num_cycles": 0.5},
        label_names=["a", "b"], include_for_metrics=["loss"], bf16=True, use_cpu=True, max_steps=7,
        accelerator_config={"even_batches": False}, include_num_input_tokens_seen=True, greater_is_better=True,
        activation_checkpointing_kwargs={"every_n_layers": 2}, ddp_find_unused_parameters=False,
        dataloader_num_workers=2, dataloader_prefetch_factor=4, max_grad_norm=0.3,
    )  # fmt: skip
    (tmp_path / "a.json").write_text(args.to_json_string())
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(args.to_dict()))
    parser = HfArgumentParser(cls)
    for again in (
        cls(**args.to_dict()),
        cls.from_dict(args.to_dict()),
        cls.from_json(tmp_path / "a.json"),
        cls.from_yaml(tmp_path / "a.yaml"),
        parser.parse_json_file(tmp_path / "a.json")[0],
        parser.parse_yaml_file(tmp_path / "a.yaml")[0],
        parser.parse_args_into_dataclasses(command_line(args), look_for_args_file=False)[0],
    ):
        assert again == args
        assert {n: type(v) for n, v in vars(again).items()} == {n: type(v) for n, v in vars(args).items()}


def test_a_script_runs_with_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from etude import HfArgumentParser, TrainingArguments\n"
        "(args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()\n"
        "print(args.learning_rate, args.output_dir)\n"
    )
    (tmp_path / "script.args").write_text("--learning_rate 0.25")
    command = [sys.executable, str(script), "--output_dir", "here"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["0.25", "here"]


def test_masked_tokens_do_not_come_back() -> None:
    args = TrainingArguments("x", hub_token="secret")
    assert TrainingArguments.from_dict(args.to_dict()).hub_token is None


def test_it_is_public() -> None:
    assert etude.HfArgumentParser is HfArgumentParser
