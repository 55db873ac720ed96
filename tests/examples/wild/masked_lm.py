"""A masked language model of Shakespeare's tragedies from scratch, with a tokenizer of its own."""

import argparse
import math

from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from _data import plays
from etude import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out/masked_lm")
parser.add_argument("--max_steps", type=int, default=-1)
args = parser.parse_args()

set_seed(1)
texts = plays("hamlet", "macbeth", "lear", "othello")

tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer()
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
special_tokens = ["[PAD]", "[UNK]", "[MASK]"]
tokenizer.train_from_iterator(
    texts, trainers.WordLevelTrainer(vocab_size=2000, special_tokens=special_tokens)
)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]"
)

dataset = Dataset.from_dict({"text": texts}).filter(lambda row: len(row["text"]) > 60)
dataset = dataset.map(
    lambda rows: tokenizer(rows["text"], truncation=True, max_length=48, return_special_tokens_mask=True),
    batched=True,
    remove_columns=["text"],
)
dataset = dataset.train_test_split(test_size=0.1, seed=1)

model = RobertaForMaskedLM(
    RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=args.output_dir,
        num_train_epochs=4,
        max_steps=args.max_steps,
        per_device_train_batch_size=32,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=10,
        logging_steps=20,
        save_strategy="no",
        report_to="none",
        seed=1,
    ),
    data_collator=DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm_probability=0.15),
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
)
trainer.train()
metrics = trainer.evaluate()
metrics["perplexity"] = math.exp(metrics["eval_loss"])
trainer.log_metrics("eval", metrics)
trainer.save_metrics("eval", metrics)
trainer.save_state()
