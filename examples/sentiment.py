"""Fine-tune a pretrained encoder to tell positive film reviews from negative ones: `python examples/sentiment.py`.

A few minutes on two CPU cores. Only the import of the trainer differs from a script for `transformers`.
"""

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from _data import minilm, movie_reviews, quiet_loading
from etude import DataCollatorWithPadding, EvalPrediction, Trainer, TrainingArguments, set_seed

quiet_loading()
set_seed(0)  # also for the new classification head

labels = {0: "negative", 1: "positive"}
tokenizer = AutoTokenizer.from_pretrained(minilm())
model = AutoModelForSequenceClassification.from_pretrained(minilm(), id2label=labels)

reviews = Dataset.from_dict(movie_reviews()).train_test_split(train_size=2500, test_size=1500, seed=0)
reviews = reviews.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": (prediction.predictions.argmax(-1) == prediction.label_ids).mean().item()}


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out/sentiment",
        num_train_epochs=2,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        learning_rate=1e-4,
        warmup_steps=0.1,  # the first tenth of the run
        logging_steps=50,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
    ),
    train_dataset=reviews["train"],
    eval_dataset=reviews["test"],
    processing_class=tokenizer,
    data_collator=DataCollatorWithPadding(tokenizer),  # pads each batch to its own longest sentence
    compute_metrics=accuracy,
)
trainer.train()
print(f"\nAccuracy on {len(reviews['test']):,} held-out sentences: {trainer.state.best_metric:.1%}")

trainer.save_model("out/sentiment/best")
classifier = AutoModelForSequenceClassification.from_pretrained("out/sentiment/best").eval()
for text in (
    "A warm, funny and quietly moving film.",
    "The plot is dull, the jokes fall flat, and it never ends.",
):
    probabilities = classifier(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
    print(f"{labels[int(probabilities.argmax())]:>9} {probabilities.max().item():4.0%}  {text}")
