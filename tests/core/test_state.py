"""Does the state survive its file, also between the libraries?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etude import TrainerControl, TrainerState
from etude.core.state import ExportableState
from etude.errors import CheckpointError
from tests import helpers
from tests.properties import quick

numbers = st.floats(allow_nan=False)
rows = st.dictionaries(st.sampled_from(["loss", "step", "eval_loss", "epoch"]), numbers)


@settings(quick, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    epoch=st.none() | numbers,
    total_flos=numbers,
    log_history=st.lists(rows, max_size=3),
    best_metric=st.none() | numbers,
    stateful_callbacks=st.dictionaries(
        st.text(max_size=5), st.dictionaries(st.just("args"), rows), max_size=2
    ),
)
def test_a_file_gives_the_same_state_back(tmp_path: Path, **values: Any) -> None:
    state = TrainerState(global_step=3, **values)
    state.save_to_json(str(tmp_path / "state.json"))
    assert TrainerState.load_from_json(str(tmp_path / "state.json")) == state


@pytest.mark.parametrize(("writer", "reader"), [("etude", "transformers"), ("transformers", "etude")])
def test_the_libraries_read_each_others_files(writer: str, reader: str, tmp_path: Path) -> None:
    path = str(tmp_path / "state.json")
    values = {
        "global_step": 7,
        "epoch": 0.7,
        "log_history": [{"loss": 0.1 + 0.2, "step": 7}],
        "best_metric": 0.5,
    }
    with helpers.library(writer) as lib:
        lib.TrainerState(**values).save_to_json(path)
    with helpers.library(reader) as lib:
        state = lib.TrainerState.load_from_json(path)
    assert {name: getattr(state, name) for name in values} == values


def test_files_are_those_of_the_reference(tmp_path: Path) -> None:
    texts = []
    for name in ("transformers", "etude"):
        with helpers.library(name) as lib:
            lib.TrainerState(global_step=3, log_history=[{"b": 1, "a": 2}]).save_to_json(str(tmp_path / name))
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]


def test_fields_of_newer_versions_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"global_step": 3, "from_the_future": 1}))
    assert TrainerState.load_from_json(str(tmp_path / "state.json")) == TrainerState(global_step=3)


@pytest.mark.parametrize("content", [None, "{", "[]", '"text"'])
def test_what_is_no_state_is_an_error_with_the_path(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckpointError, match="state.json"):
        TrainerState.load_from_json(str(path))


def test_control_is_made_again_from_its_state() -> None:
    control = TrainerControl(should_save=True, should_epoch_stop=True)
    assert TrainerControl.from_state(control.state()) == control


def test_control_resets_what_its_moment_owns() -> None:
    control = TrainerControl(True, True, True, True, True)
    control._new_step()
    assert control == TrainerControl(True, True, False, False, False)
    control._new_epoch()
    assert control == TrainerControl(should_training_stop=True)
    control._new_training()
    assert control == TrainerControl()


class Counter(ExportableState):
    """A part with a constructor argument and something set afterwards."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.count = start

    def state(self) -> dict[str, Any]:
        return {"args": {"start": self.start}, "attributes": {"count": self.count}}


def test_an_exportable_part_is_made_again() -> None:
    counter = Counter(3)
    counter.count = 9
    copied = Counter.from_state(json.loads(json.dumps(counter.state())))
    assert (copied.start, copied.count) == (3, 9)


def test_a_part_without_a_state_says_what_to_define() -> None:
    class Forgetful(ExportableState):
        pass

    with pytest.raises(NotImplementedError, match=r"Forgetful must define `state\(\)`"):
        Forgetful().state()
