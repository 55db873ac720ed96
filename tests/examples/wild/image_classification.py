"""MNIST digits with a small vision transformer; pixels become tensors in the collator."""

import argparse

import torch
from sklearn.metrics import accuracy_score
from transformers import ViTConfig, ViTForImageClassification

from _data import mnist
from etude import Trainer, TrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out/digits")
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--fp32", action="store_true")
args = parser.parse_args()

set_seed(17)
digits = mnist()
train_dataset, eval_dataset = digits[:4500], digits[4500:]


def collate_fn(examples):
    pixel_values = torch.stack([example["image"] for example in examples])
    labels = torch.tensor([example["labels"] for example in examples])
    return {"pixel_values": (pixel_values - 0.13) / 0.31, "labels": labels}


def compute_metrics(p):
    return {"accuracy": accuracy_score(p.label_ids, p.predictions)}


class ShiftingTrainer(Trainer):
    """Shifts each training image by a pixel or two, as digits are drawn a little to the left or right."""

    def training_step(self, model, inputs, *args, **kwargs):
        shift = int(torch.randint(-2, 3, ()))
        inputs["pixel_values"] = inputs["pixel_values"].roll(shift, dims=-1)
        return super().training_step(model, inputs, *args, **kwargs)


model = ViTForImageClassification(
    ViTConfig(
        image_size=28,
        patch_size=7,
        num_channels=1,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        num_labels=10,
        hidden_dropout_prob=0.1,
    )
)
trainer = ShiftingTrainer(
    model=model,
    args=TrainingArguments(
        args.output_dir,
        remove_unused_columns=False,
        learning_rate=2e-3,
        lr_scheduler_type="cosine",
        warmup_steps=10,
        num_train_epochs=4,
        max_steps=args.max_steps,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=128,
        logging_steps=20,
        save_strategy="no",
        dataloader_num_workers=0,
        report_to="none",
    ),
    data_collator=collate_fn,
    train_dataset=train_dataset,
    eval_dataset=eval_dataset,
    compute_metrics=compute_metrics,
    preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(dim=-1),
)
train_results = trainer.train()
trainer.log_metrics("train", train_results.metrics)
trainer.save_metrics("train", train_results.metrics)
metrics = trainer.evaluate()
trainer.log_metrics("eval", metrics)
trainer.save_metrics("eval", metrics)
trainer.save_state()
