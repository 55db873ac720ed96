"""Spoken digits to text: a small Wav2Vec2 with connectionist temporal classification, from scratch.

Each recording is a voice that says one to three digits, with pauses, loudness and noise that vary.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from _data import spoken_digits
from etude import Trainer, TrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out/spoken_digits")
parser.add_argument("--max_steps", type=int, default=400)
args = parser.parse_args()

set_seed(2)
BLANK = 0  # digit d has the label d + 1
sounds = spoken_digits()
extractor = Wav2Vec2FeatureExtractor(feature_size=1, sampling_rate=8000, return_attention_mask=True)


def recording(rng):
    digits = rng.integers(0, 10, size=rng.integers(1, 4))
    parts = []
    for digit in digits:
        parts.append(sounds[str(digit)] * rng.uniform(0.5, 1.5))
        parts.append(np.zeros(rng.integers(200, 1200), dtype=np.float32))
    audio = np.concatenate(parts)
    audio = audio + rng.normal(0, 0.01, audio.shape)
    return {"input_values": extractor(audio, sampling_rate=8000).input_values[0], "labels": digits + 1}


@dataclass
class DataCollatorCTCWithPadding:
    extractor: Any

    def __call__(self, features):
        inputs = [{"input_values": feature["input_values"]} for feature in features]
        batch = self.extractor.pad(inputs, padding=True, return_tensors="pt")
        labels = [torch.tensor(feature["labels"]) for feature in features]
        batch["labels"] = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        return batch


def errors(said, heard):
    """Edit distance of two sequences."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, start=1):
        before, row[0] = row[0], i
        for j, b in enumerate(heard, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def compute_metrics(prediction):
    wrong = total = 0
    for frames, labels in zip(prediction.predictions.argmax(-1), prediction.label_ids, strict=True):
        heard = [x for i, x in enumerate(frames) if x != BLANK and (i == 0 or x != frames[i - 1])]
        said = labels[labels != -100]
        wrong, total = wrong + errors(said, heard), total + len(said)
    return {"error_rate": wrong / total}


config = Wav2Vec2Config(
    vocab_size=11,
    pad_token_id=BLANK,
    hidden_size=48,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=96,
    conv_dim=(64, 64, 64),
    conv_kernel=(40, 16, 8),
    conv_stride=(20, 8, 4),
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
    ctc_loss_reduction="mean",
    ctc_zero_infinity=True,
    mask_time_prob=0.0,
    layerdrop=0.0,
    hidden_dropout=0.0,
    attention_dropout=0.0,
    activation_dropout=0.0,
    feat_proj_dropout=0.0,
    final_dropout=0.0,
)
rng = np.random.default_rng(2)
trainer = Trainer(
    model=Wav2Vec2ForCTC(config),
    args=TrainingArguments(
        output_dir=args.output_dir,
        max_steps=args.max_steps,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=20,
        learning_rate=2e-3,
        warmup_steps=20,
        logging_steps=20,
        eval_strategy="steps",
        eval_steps=100,
        save_strategy="no",
        report_to="none",
    ),
    data_collator=DataCollatorCTCWithPadding(extractor),
    train_dataset=[recording(rng) for _ in range(600)],
    eval_dataset=[recording(rng) for _ in range(100)],
    compute_metrics=compute_metrics,
    processing_class=extractor,
)
trainer.train()
trainer.save_metrics("eval", trainer.evaluate())
trainer.save_state()
