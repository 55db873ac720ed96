"""Which part of an address is each word? A small DistilBERT over word pieces, labels on the first piece of a word."""

import argparse

import numpy as np
from datasets import ClassLabel, Dataset
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForTokenClassification

from _data import addresses, minilm
from etude import DataCollatorForTokenClassification, Trainer, TrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out/addresses")
parser.add_argument("--epochs", type=float, default=5)
args = parser.parse_args()

set_seed(3)
tokenizer = AutoTokenizer.from_pretrained(minilm())
rows = addresses()
labels = ClassLabel(names=sorted({tag for _, tags in rows for tag in tags}))
raw = Dataset.from_dict(
    {"tokens": [words for words, _ in rows], "tags": [labels.str2int(tags) for _, tags in rows]}
).train_test_split(test_size=0.2, seed=3)


def tokenize_and_align_labels(examples):
    tokenized_inputs = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
    tokenized_inputs["labels"] = []
    for i, tags in enumerate(examples["tags"]):
        previous, label_ids = None, []
        for word in tokenized_inputs.word_ids(batch_index=i):
            label_ids.append(-100 if word is None or word == previous else tags[word])
            previous = word
        tokenized_inputs["labels"].append(label_ids)
    return tokenized_inputs


def compute_metrics(p):
    predictions, references = p
    predictions = np.argmax(predictions, axis=2)
    counted = references != -100
    correct = (predictions == references)[counted]
    whole = ((predictions == references) | ~counted).all(axis=1)
    return {"accuracy": correct.mean(), "whole_addresses": whole.mean()}


tokenized = raw.map(tokenize_and_align_labels, batched=True, remove_columns=raw["train"].column_names)
config = DistilBertConfig(
    vocab_size=len(tokenizer),
    dim=48,
    n_layers=1,
    n_heads=4,
    hidden_dim=96,
    dropout=0.0,
    attention_dropout=0.0,
    num_labels=labels.num_classes,
    id2label=dict(enumerate(labels.names)),
    label2id={name: i for i, name in enumerate(labels.names)},
)
trainer = Trainer(
    model_init=lambda: DistilBertForTokenClassification(config),
    args=TrainingArguments(
        output_dir=args.output_dir,
        learning_rate=3e-3,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=32,
        num_train_epochs=args.epochs,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,
        report_to=[],
    ),
    train_dataset=tokenized["train"],
    eval_dataset=tokenized["test"],
    data_collator=DataCollatorForTokenClassification(tokenizer),
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
)
train_result = trainer.train()
trainer.save_model()
trainer.save_metrics("train", train_result.metrics)
trainer.save_state()
trainer.save_metrics("eval", trainer.evaluate())
