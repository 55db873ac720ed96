"""Train a plain `nn.Module` on handwritten digits: `python examples/digits.py`. Under a minute on two CPU cores.

A module that returns its loss and logits in a dictionary is all the trainer needs; `transformers` is not involved.
"""

from safetensors.torch import load_file
from torch import Tensor, nn, stack

from _data import mnist
from etude import EvalPrediction, Trainer, TrainingArguments, set_seed


class DigitClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 16, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),  # 28 x 28 to 14 x 14
            *(nn.Conv2d(16, 32, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),  # to 7 x 7
            *(nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10)),
        )

    def forward(self, image: Tensor, labels: Tensor | None = None) -> dict[str, Tensor | None]:
        logits = self.body(image)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": (prediction.predictions.argmax(-1) == prediction.label_ids).mean().item()}


set_seed(0)  # before the model draws its first weights
digits = mnist()
train, held_out = digits[:4000], digits[4000:]

trainer = Trainer(
    model=DigitClassifier(),
    args=TrainingArguments(
        output_dir="out/digits",
        num_train_epochs=8,
        per_device_train_batch_size=64,
        learning_rate=3e-3,
        logging_strategy="epoch",
        eval_strategy="epoch",
        save_strategy="epoch",
    ),
    train_dataset=train,
    eval_dataset=held_out,
    compute_metrics=accuracy,
)
trainer.train()
print(f"\nAccuracy on {len(held_out):,} held-out digits: {trainer.evaluate()['eval_accuracy']:.1%}")

trainer.save_model("out/digits/final")
model = DigitClassifier().eval()
model.load_state_dict(load_file("out/digits/final/model.safetensors"))
images = stack([sample["image"] for sample in held_out[:10]])
print("Predicted", model(images)["logits"].argmax(-1).tolist())
print("True     ", [sample["labels"] for sample in held_out[:10]])
