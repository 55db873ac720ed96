"""How much do people like the film? A rating from -4 to 4 from a sentence: regression with one output."""

import argparse

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from _data import minilm, movie_ratings
from etude import Trainer, TrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out/ratings")
parser.add_argument("--max_steps", type=int, default=-1)
args = parser.parse_args()

set_seed(5)
tokenizer = AutoTokenizer.from_pretrained(minilm())
dataset = Dataset.from_dict(movie_ratings()).shuffle(seed=5)
dataset = dataset.map(lambda rows: tokenizer(rows["text"], truncation=True), batched=True)
train, test = dataset.select(range(6000)), dataset.select(range(6000, 6500))


def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    predictions = predictions.squeeze()
    return {
        "rmse": float(np.sqrt(np.mean((predictions - labels) ** 2))),
        "pearson": float(np.corrcoef(predictions, labels)[0, 1]),
    }


class HuberTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = nn.HuberLoss(delta=2.0)(outputs.logits.squeeze(-1), labels)
        return (loss, outputs) if return_outputs else loss


config = BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=48,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=96,
    num_labels=1,
    problem_type="regression",
)
model = BertForSequenceClassification(config)
optimizer = torch.optim.AdamW(
    [
        {"params": model.bert.parameters(), "lr": 2e-3},
        {"params": model.classifier.parameters(), "lr": 5e-3},
    ]
)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=100, gamma=0.5)
trainer = HuberTrainer(
    model=model,
    args=TrainingArguments(
        output_dir=args.output_dir,
        num_train_epochs=2,
        max_steps=args.max_steps,
        per_device_train_batch_size=32,
        logging_steps=25,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=train,
    eval_dataset=test,
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
    optimizers=(optimizer, scheduler),
)
trainer.train()
output = trainer.predict(test)
trainer.save_metrics("test", output.metrics)
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_state()
