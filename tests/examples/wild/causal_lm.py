"""A small Llama that writes Shakespeare, character by character, from scratch; arguments from the command line."""

from dataclasses import dataclass, field
from itertools import chain

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from _data import plays
from etude import (
    HfArgumentParser,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)


@dataclass
class ModelArguments:
    hidden_size: int = field(default=64, metadata={"help": "Width of the model."})
    num_layers: int = field(default=2, metadata={"help": "Number of decoder layers."})


@dataclass
class DataArguments:
    block_size: int = field(default=64, metadata={"help": "Characters in one training sample."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on a part only."})


class Characters(torch.utils.data.Dataset):
    """Blocks of consecutive characters."""

    def __init__(self, ids, block_size):
        self.blocks = [ids[i : i + block_size] for i in range(0, len(ids) - block_size, block_size)]

    def __len__(self):
        return len(self.blocks)

    def __getitem__(self, index):
        return {"input_ids": self.blocks[index], "labels": self.blocks[index]}


class GradientNorms(TrainerCallback):
    """Remembers the largest gradient norm of the run."""

    def __init__(self):
        self.largest = 0.0

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.largest = max(self.largest, logs.get("grad_norm", 0.0))


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    set_seed(training_args.seed)

    text = "\n".join(plays("hamlet", "macbeth", "lear"))
    characters = sorted(set(text))
    ids = [characters.index(character) for character in chain(text)]
    cut = int(0.95 * len(ids))
    train, held_out = (Characters(part, data_args.block_size) for part in (ids[:cut], ids[cut:]))
    if data_args.max_train_samples is not None:
        train = torch.utils.data.Subset(train, range(data_args.max_train_samples))

    config = LlamaConfig(
        vocab_size=len(characters),
        hidden_size=model_args.hidden_size,
        intermediate_size=2 * model_args.hidden_size,
        num_hidden_layers=model_args.num_layers,
        num_attention_heads=4,
        max_position_embeddings=data_args.block_size,
        attention_dropout=0.1,
        use_cache=False,
    )
    norms = GradientNorms()
    trainer = Trainer(
        model=LlamaForCausalLM(config),
        args=training_args,
        train_dataset=train if training_args.do_train else None,
        eval_dataset=held_out if training_args.do_eval else None,
        data_collator=default_data_collator,
        callbacks=[norms],
    )
    if training_args.do_train:
        result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        trainer.save_model()
        trainer.save_metrics("train", {**result.metrics, "largest_gradient": norms.largest})
    if training_args.do_eval:
        trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_state()


if __name__ == "__main__":
    main()
