from __future__ import annotations

import pytest
import torch

from etude import Trainer
from etude.checkpoint.weights import load_weights, save_weights
from etude.errors import CheckpointError
from tests import helpers

peft = pytest.importorskip("peft")
# peft asks a transformers model for an attribute under its older name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def adapted(seed: int, rank: int = 4, *others: str):
    torch.manual_seed(0)
    base = helpers.bert_classifier()
    torch.manual_seed(seed)
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=rank, target_modules=["query", "value"], init_lora_weights=False
    )
    model = peft.get_peft_model(base, config)
    for name in others:
        model.add_adapter(name, config)
    return model


def test_every_adapter_comes_back(tmp_path):
    saved, loaded = adapted(1, 4, "second"), adapted(2, 4, "second")
    save_weights(saved, str(tmp_path))
    load_weights(loaded, str(tmp_path))
    helpers.assert_identical(helpers.weights_of(loaded), helpers.weights_of(saved))


def test_only_adapters_are_written(tmp_path):
    save_weights(adapted(1), str(tmp_path))
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 40_000
    assert not (tmp_path / "model.safetensors").exists()


def test_an_adapter_that_is_missing_is_named(tmp_path):
    save_weights(adapted(1), str(tmp_path))
    with pytest.raises(CheckpointError, match=r"no adapter 'second'"):
        load_weights(adapted(1, 4, "second"), str(tmp_path))


def test_an_adapter_of_another_shape_is_refused(tmp_path):
    save_weights(adapted(1, 4), str(tmp_path))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_weights(adapted(1, 8), str(tmp_path))


def test_training_moves_the_adapter_only_and_resumes(tmp_path):
    import etude

    def run(steps: int, folder: str, resume: bool | str = False) -> Trainer:
        model = adapted(1)
        before = helpers.weights_of(model)
        arguments = helpers.training_arguments(
            etude,
            tmp_path / folder,
            max_steps=steps,
            save_strategy="steps",
            save_steps=2,
            lr_scheduler_type="constant",
        )
        trainer = Trainer(
            model, arguments, train_dataset=helpers.text_rows(16), data_collator=helpers.pad_texts
        )
        assert trainer.label_names == ["labels"]
        trainer.train(resume_from_checkpoint=resume)
        moved = {n for n, w in helpers.weights_of(model).items() if not torch.equal(w, before[n])}
        assert moved
        assert all("lora" in name or "classifier" in name for name in moved)
        return trainer

    whole = run(4, "whole")
    run(2, "cut")
    resumed = run(4, "cut", resume=True)
    helpers.assert_identical(helpers.weights_of(resumed.model), helpers.weights_of(whole.model))
