"""How a model is told that the tokens of a row belong to several sequences, and whether it keeps them apart.

Nobody can tell from a model's class what it does with such a row: one builds its mask from the position ids, one takes
a mask of its caller's, one ignores both. So it is tried: two short sequences are run alone and in one row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from etude.core.rng import undisturbed
from etude.errors import ConfigurationError

IGNORED = -100  # the label that PyTorch's losses leave out
PROBE_LENGTH = 8  # tokens of a sequence
TOLERANCE = 1e-4  # of the largest output, between a sequence alone and in a row
HALF_TOLERANCE = 5e-2  # where outputs are rounded to 8 or 11 bits, differently for rows of another length
_WINDOWS = ("sliding_window", "local_attention", "window_size", "attention_window", "attention_chunk_size")
_TOO_FAR = "a mask would replace the window of its attention, which is shorter than the longest sequence"
LEAK = 1e-6  # between two rows of one shape that differ elsewhere: what is masked has the weight 0


@dataclass(frozen=True)
class Isolation:
    """What to give a model with rows of several sequences, so that each is computed as if it were alone.

    Attributes:
        told_by: "positions": position ids that begin anew, from which the model makes its mask; "mask": a mask of
            shape [rows, 1, tokens, tokens]; "lengths": all sequences in one row, and where they begin (FlashAttention).
        first_position: of each sequence.
        causal: in a mask, whether tokens see only what is before them.
        additive: whether a mask is added to the scores, or says which of them count.
    """

    told_by: str
    first_position: int = 0
    causal: bool = False
    additive: bool = False

    @property
    def is_flat(self) -> bool:
        """Whether all sequences of a batch go into one row."""
        return self.told_by == "lengths"

    def inputs(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        """What the model gets besides the tokens.

        Args:
            rows: lengths of the sequences of each row. What is left of a row up to the longest is padding, each token
                of it a sequence of its own: it sees itself, as attention to nothing would not be a number.
        """
        width = max((sum(row) for row in rows), default=0)
        positions = torch.zeros(len(rows), width, dtype=torch.long)
        sequences = torch.arange(width).repeat(
            len(rows), 1
        )  # of each token, the place where its sequence begins
        for row, lengths in enumerate(rows):
            begin = 0
            for length in lengths:
                positions[row, begin : begin + length] = torch.arange(length)
                sequences[row, begin : begin + length] = begin
                begin += length
        inputs: dict[str, Any] = {"position_ids": positions + self.first_position}
        if self.told_by == "mask":
            inputs["attention_mask"] = self._mask(sequences)
        elif self.told_by == "lengths":
            inputs |= _boundaries([length for lengths in rows for length in lengths])
        return inputs

    def _mask(self, sequences: torch.Tensor) -> torch.Tensor:
        seen = (sequences[:, :, None] == sequences[:, None, :])[:, None]
        if self.causal:
            seen = seen.tril()
        if not self.additive:
            return seen
        return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)


def _boundaries(lengths: list[int]) -> dict[str, Any]:
    lengths = [length for length in lengths if length]
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    longest = max(lengths, default=0)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


def find_isolation(model: nn.Module, longest: int, is_rounded: bool = False) -> Isolation:
    """How `model` keeps the sequences of a row apart, found by trying it on random tokens.

    Costs two to five forward passes of a few tokens; leaves no trace on the model or the random state.

    Args:
        longest: length of the longest sequence that will come. Attention that reaches less far cannot be given a mask,
            which would replace its own.
        is_rounded: whether the model computes in half precision, whatever its weights are.

    Raises:
        ConfigurationError: it does not, in any way that is known.
    """
    name = type(model).__name__
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise _refused(name, "it has batch normalisation, which computes with all tokens of a batch")
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise _refused(name, "it has an encoder and a decoder")
    reasons: dict[str, None] = {}
    with undisturbed(), torch.no_grad(), _evaluating(model):
        probe = _Probe(model, is_rounded)
        for way in _ways(model):
            replaced = way.told_by == "mask" and _reach(model) < longest
            reason = _TOO_FAR if replaced else probe.what_is_wrong(way)
            if reason is None:
                return way
            reasons[reason] = None
    raise _refused(name, "; ".join(reasons))


def ignores_first_labels(model: nn.Module) -> bool:
    """Whether the model's loss leaves out the first label of each row, as it predicts each from what is before.

    Found by giving it that label only: its mean over nothing is 0 or no number. False where it takes no labels.
    """
    ids = _random_tokens(model)[:1].to(next(model.parameters()).device)
    labels = torch.zeros_like(ids).fill_(IGNORED)
    labels[:, 0] = 0
    with undisturbed(), torch.no_grad(), _evaluating(model):
        try:
            outputs = model(input_ids=ids, labels=labels)
            loss = float(outputs["loss"] if isinstance(outputs, Mapping) else outputs[0])
        except Exception:
            return False
    return math.isnan(loss) or loss == 0.0


def _refused(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"`packing=True` cannot be used with {name}: {why}. Set `packing=False`; "
        "`train_sampling_strategy='group_by_length'` saves padding too."
    )


def _ways(model: nn.Module) -> Iterator[Isolation]:
    """What to try: first what costs the least."""
    kind = str(getattr(getattr(model, "config", None), "_attn_implementation", None))
    first = _first_position(model)
    if "flash" in kind:
        yield Isolation("lengths", first)
        return
    yield Isolation("positions", first)
    forms = {"sdpa": (False,), "eager": (True,), "flex_attention": ()}.get(kind, (False, True))
    for additive in forms:
        for causal in (False, True):
            yield Isolation("mask", first, causal, additive)


def _first_position(model: nn.Module) -> int:
    """0; after the padding's place in models that keep one in the table of positions (RoBERTa)."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return 0 if module.padding_idx is None else module.padding_idx + 1
    return 0


def _reach(model: nn.Module) -> float:
    """How far the model's attention sees, as far as its configuration says."""
    config = getattr(model, "config", None)
    found = [getattr(config, name, None) for name in _WINDOWS]
    return min((window for window in found if isinstance(window, int) and window > 0), default=math.inf)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Probe:
    """Three sequences, and what the model makes of them alone."""

    def __init__(self, model: nn.Module, is_rounded: bool) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        exact = {torch.float32, torch.float64}
        is_rounded = is_rounded or not exact.issuperset(p.dtype for p in model.parameters())
        self._tolerance = HALF_TOLERANCE if is_rounded else TOLERANCE
        self._ids = _random_tokens(model)
        try:
            self._alone = self._outputs(self._ids)
        except Exception as error:
            raise _refused(
                type(model).__name__, f"it cannot be run on `input_ids` alone ({_first_line(error)})"
            ) from error

    def what_is_wrong(self, way: Isolation) -> str | None:
        """Why the model does not keep the sequences apart with this; None where it does."""
        alone = self._alone
        if alone is None:
            return "its output is not one for each token"
        a, b, c = self._ids
        # rows 1 and 2 differ from row 0 in one half only
        rows, expected = [(a, b), (c, b), (a, c)], [(0, 1), (2, 1), (0, 2)]
        ids = torch.stack([torch.cat(row) for row in rows])
        lengths = [[PROBE_LENGTH] * 2 for _ in rows]
        if way.is_flat:
            ids, lengths = ids.reshape(1, -1), [[PROBE_LENGTH] * 6]
        try:
            found = self._outputs(ids, **way.inputs(lengths))
        except Exception as error:
            return f"it cannot be given {_WHAT[way.told_by]} ({_first_line(error)})"
        if found is None:
            return "its output is not one for each token"
        found = found.reshape(3, 2, PROBE_LENGTH, -1)
        wanted = torch.stack([alone[list(pair)] for pair in expected]).reshape(found.shape)
        scale = wanted.abs().max().clamp(min=1e-12)
        leak = torch.stack([found[0, 1] - found[1, 1], found[0, 0] - found[2, 0]]).abs().max()
        if leak <= LEAK * scale and (found - wanted).abs().max() <= self._tolerance * scale:
            return None
        return f"sequences in one row change each other, {_EVEN[way.told_by]}"

    def _outputs(self, ids: torch.Tensor, **inputs: Any) -> torch.Tensor | None:
        """The first output that has one entry for each token."""
        placed = {
            name: value.to(self._device) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        outputs = self._model(input_ids=ids.to(self._device), **placed)
        if isinstance(outputs, Mapping):
            outputs = list(outputs.values())
        for output in outputs if isinstance(outputs, (list, tuple)) else [outputs]:
            is_tensor = isinstance(output, torch.Tensor) and output.is_floating_point()
            if is_tensor and output.shape[:2] == ids.shape:
                return torch.as_tensor(output).cpu().to(torch.float64)
        return None


_WHAT = {"positions": "position ids", "mask": "a mask for pairs of tokens", "lengths": "lengths of sequences"}
_EVEN = {
    "positions": "although position ids say where they begin",
    "mask": "although a mask keeps them apart",
    "lengths": "although their lengths are given",
}


def _random_tokens(model: nn.Module) -> torch.Tensor:
    """Three sequences without padding, which has no place in some models."""
    size = _vocabulary(model)
    ids = torch.randint(size, (3, PROBE_LENGTH), generator=torch.Generator().manual_seed(0))
    padding = getattr(getattr(model, "config", None), "pad_token_id", None)
    return torch.where(ids == padding, (ids + 1) % size, ids) if isinstance(padding, int) else ids


def _vocabulary(model: nn.Module) -> int:
    """How many tokens the model knows."""
    try:
        table = model.get_input_embeddings()  # type: ignore[operator]
        return int(table.num_embeddings)
    except (AttributeError, NotImplementedError):
        sizes = [m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)]
    if not sizes:
        raise _refused(type(model).__name__, "it has no embeddings of tokens")
    return max(sizes)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
