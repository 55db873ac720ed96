"""How English words are spoken: letters to phonemes, with a small T5 and generated predictions."""

import argparse

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from _data import pronunciations
from etude import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments, set_seed

parser = argparse.ArgumentParser()
parser.add_argument("--output_dir", default="out/letters_to_phonemes")
parser.add_argument("--max_steps", type=int, default=3000)
parser.add_argument("--train_size", type=int, default=60000)
parser.add_argument("--eval_size", type=int, default=500)
options = parser.parse_args()

set_seed(0)
words = [(list(word), phonemes) for word, phonemes in pronunciations() if len(word) <= 8 and word.isalpha()]

symbols = sorted({symbol for letters, phonemes in words for symbol in [*letters, *phonemes]})
vocabulary = {symbol: i for i, symbol in enumerate(["<pad>", "<s>", "</s>", "<unk>", *symbols])}
backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
)


def encode(examples):
    features = tokenizer([" ".join(letters) for letters in examples["letters"]], return_token_type_ids=False)
    targets = tokenizer(text_target=[" ".join(phonemes) for phonemes in examples["phonemes"]])
    features["labels"] = targets["input_ids"]
    return features


def compute_metrics(eval_preds):
    predictions, labels = eval_preds
    predictions = np.where(predictions != -100, predictions, tokenizer.pad_token_id)
    labels = np.where(labels != -100, labels, tokenizer.pad_token_id)
    spoken = tokenizer.batch_decode(predictions, skip_special_tokens=True)
    expected = tokenizer.batch_decode(labels, skip_special_tokens=True)
    pairs = [(a.split(), b.split()) for a, b in zip(spoken, expected, strict=True)]
    return {
        "exact_match": np.mean([a == b for a, b in pairs]),
        "phonemes_found": np.mean([len(set(a) & set(b)) / len(set(b)) for a, b in pairs]),
        "gen_len": np.mean([np.count_nonzero(p != tokenizer.pad_token_id) for p in predictions]),
    }


dataset = Dataset.from_list([{"letters": letters, "phonemes": phonemes} for letters, phonemes in words])
dataset = dataset.train_test_split(train_size=options.train_size, test_size=options.eval_size, seed=0)
dataset = dataset.map(encode, batched=True, remove_columns=["letters", "phonemes"])
config = T5Config(
    vocab_size=len(vocabulary),
    d_model=64,
    d_kv=16,
    d_ff=128,
    num_layers=1,
    num_heads=4,
    dropout_rate=0.0,
    pad_token_id=0,
    eos_token_id=2,
    decoder_start_token_id=0,
    tie_word_embeddings=False,
)
model = T5ForConditionalGeneration(config)
trainer = Seq2SeqTrainer(
    model=model,
    args=Seq2SeqTrainingArguments(
        output_dir=options.output_dir,
        max_steps=options.max_steps,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=50,
        learning_rate=3e-3,
        warmup_steps=20,
        logging_steps=20,
        eval_strategy="steps",
        eval_steps=100,
        save_strategy="no",
        predict_with_generate=True,
        generation_max_length=16,
        generation_num_beams=2,
        report_to="none",
    ),
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
    data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
)
trainer.train()
metrics = trainer.evaluate(max_length=12, num_beams=1)
trainer.save_metrics("eval", metrics)
trainer.save_state()
