"""Sentiment of film reviews, as such scripts were written for version 4: `evaluation_strategy=`, `tokenizer=`."""

import argparse

import numpy as np
from datasets import Dataset
from sklearn.metrics import accuracy_score, f1_score
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from _data import minilm, movie_reviews
from etude import DataCollatorWithPadding, EarlyStoppingCallback, Trainer, TrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out/sentiment")
parser.add_argument("--max_steps", type=int, default=-1)
parser.add_argument("--train_size", type=int, default=6000)
options = parser.parse_args()

set_seed(42)
tokenizer = AutoTokenizer.from_pretrained(minilm())
raw = Dataset.from_dict(movie_reviews()).train_test_split(
    train_size=options.train_size, test_size=500, seed=42
)


def tokenize(examples):
    return tokenizer(examples["text"], truncation=True, max_length=64)


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": accuracy_score(labels, predictions), "f1": f1_score(labels, predictions)}


tokenized = raw.map(tokenize, batched=True)
config = BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=48,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=96,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    num_labels=2,
)
training_args = TrainingArguments(
    output_dir=options.output_dir,
    learning_rate=2e-3,
    per_device_train_batch_size=32,
    per_device_eval_batch_size=64,
    num_train_epochs=3,
    max_steps=options.max_steps,
    weight_decay=0.01,
    warmup_ratio=0.1,
    evaluation_strategy="steps",
    eval_steps=50,
    save_steps=50,
    logging_steps=25,
    save_total_limit=1,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    report_to="none",
)
trainer = Trainer(
    model=BertForSequenceClassification(config),
    args=training_args,
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["test"],
    tokenizer=tokenizer,
    data_collator=DataCollatorWithPadding(tokenizer=tokenizer),
    compute_metrics=compute_metrics,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
)
trainer.train()
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_state()
