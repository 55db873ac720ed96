"""Which parts does an address have? Each may have any of eight: multi-label classification."""

import argparse

import numpy as np
import torch
from sklearn.metrics import f1_score
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from _data import addresses, minilm
from etude import EvalPrediction, Trainer, TrainingArguments, set_seed

PARTS = ["PlaceName", "ZipCode", "StateName", "StreetNamePostType", "StreetNamePreDirectional"]
PARTS += ["OccupancyIdentifier", "OccupancyType", "USPSBoxType"]

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out/parts")
parser.add_argument("--epochs", type=int, default=8)
args = parser.parse_args()

set_seed(8)
tokenizer = AutoTokenizer.from_pretrained(minilm())


class Addresses(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.encodings = tokenizer([" ".join(words) for words, _ in rows], truncation=True)
        self.labels = [[float(part in tags) for part in PARTS] for _, tags in rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        item = {key: values[index] for key, values in self.encodings.items()}
        item["labels"] = self.labels[index]
        return item


def compute_metrics(p: EvalPrediction):
    scores = p.predictions[0] if isinstance(p.predictions, tuple) else p.predictions
    predicted = (torch.sigmoid(torch.tensor(scores)) >= 0.5).int().numpy()
    return {
        "f1": f1_score(p.label_ids, predicted, average="micro"),
        "exact": float(np.all(predicted == p.label_ids, axis=1).mean()),
    }


rows = addresses()
config = BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=48,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=96,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    problem_type="multi_label_classification",
    id2label=dict(enumerate(PARTS)),
    label2id={part: i for i, part in enumerate(PARTS)},
)
trainer = Trainer(
    BertForSequenceClassification(config),
    TrainingArguments(
        args.output_dir,
        eval_strategy="epoch",
        save_strategy="best",
        metric_for_best_model="unseen_f1",
        load_best_model_at_end=True,
        learning_rate=2e-3,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=32,
        num_train_epochs=args.epochs,
        weight_decay=0.01,
        logging_steps=20,
        logging_first_step=True,
        report_to="none",
    ),
    train_dataset=Addresses(rows[:1200]),
    eval_dataset={"seen": Addresses(rows[:200]), "unseen": Addresses(rows[1200:])},
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
)
trainer.train()
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_state()
