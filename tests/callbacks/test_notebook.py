"""What a notebook shows, drawn by a stand-in for IPython."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import etude
from etude.callbacks import notebook
from tests import helpers


class Page:
    """A notebook's output: what each display shows now, and how often anything was drawn."""

    def __init__(self) -> None:
        self.displays: list[str] = []
        self.num_drawn = 0

    def display(self, picture: Any, display_id: bool = False) -> Any:
        assert display_id
        place = len(self.displays)
        self.displays.append("")

        def update(newer: Any) -> None:
            self.displays[place] = newer.data
            self.num_drawn += 1

        update(picture)
        return SimpleNamespace(update=update)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    shown = Page()
    package, module = ModuleType("IPython"), ModuleType("IPython.display")
    module.display, module.HTML = shown.display, lambda text: SimpleNamespace(data=text)
    package.get_ipython = lambda: SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def trainer(folder: Path, **fields: Any) -> Any:
    return etude.Trainer(
        model=helpers.DictClassifier(),
        args=helpers.training_arguments(etude, folder, max_steps=4, disable_tqdm=False, **fields),
        train_dataset=helpers.feature_rows(16),
        eval_dataset=helpers.feature_rows(9),
        compute_metrics=helpers.accuracy,
    )


def cells(picture: str) -> list[list[str]]:
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", picture)]


def test_a_notebook_gets_a_bar_and_a_row_for_each_evaluation(page: Page, tmp_path: Path) -> None:
    made = trainer(tmp_path, eval_strategy="steps", eval_steps=2)
    made.train()
    (picture,) = page.displays
    assert '<progress value="4" max="4"></progress> step 4 of 4, epoch 1.00' in picture
    rows = cells(picture)
    assert rows[0] == ["Epoch", "Step", "Training Loss", "Loss", "Accuracy"]
    assert [row[1] for row in rows[1:]] == ["2", "4"]
    assert float(rows[2][4]) == pytest.approx(made.state.log_history[-2]["eval_accuracy"], rel=1e-3)
    assert made.state.log_history[-2].keys() >= {
        "eval_runtime",
        "epoch",
    }  # looking at rows takes nothing out of them


def test_without_evaluations_there_is_a_row_for_each_loss(page: Page, tmp_path: Path) -> None:
    trainer(tmp_path, logging_steps=2).train()
    assert [row[0] for row in cells(page.displays[0])] == ["Step", "2", "4"]


def test_an_evaluation_alone_is_shown(page: Page, tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.evaluate()
    assert cells(page.displays[0])[0] == ["Epoch", "Step", "Training Loss", "Loss", "Accuracy"]
    assert "<progress" not in page.displays[0]


def test_it_is_not_drawn_at_every_step(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "REDRAW_INTERVAL", 1e9)
    trainer(tmp_path, logging_strategy="no").train()
    assert page.num_drawn <= 2 + 1  # the first step follows the start, and the end is always drawn
    monkeypatch.setattr(notebook, "REDRAW_INTERVAL", 0)
    page.num_drawn = 0
    trainer(tmp_path, logging_strategy="no").train()
    assert page.num_drawn == 2 + 4


def test_other_processes_show_nothing(page: Page, tmp_path: Path) -> None:
    callback, control = etude.NotebookProgressCallback(), etude.TrainerControl()
    state = etude.TrainerState(max_steps=2, is_world_process_zero=False)
    args = helpers.training_arguments(etude, tmp_path)
    for event in (
        "on_train_begin",
        "on_step_end",
        "on_prediction_step",
        "on_evaluate",
        "on_predict",
        "on_train_end",
    ):
        getattr(callback, event)(args, state, control)
    callback.on_log(args, state, control, logs={"loss": 1.0})
    assert page.displays == []


def test_names_are_text_not_markup() -> None:
    assert notebook.table([{"<b>": "&"}]).count("&lt;b&gt;") == 1


@pytest.mark.parametrize("config", [{}, None])
def test_elsewhere_there_is_no_notebook(
    config: Any, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = None if config is None else SimpleNamespace(config=config)
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    shown = {type(callback) for callback in trainer(tmp_path).callback_handler.callbacks}
    assert etude.ProgressCallback in shown
    assert etude.NotebookProgressCallback not in shown
