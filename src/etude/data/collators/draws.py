"""Where masking collators get their random numbers from: PyTorch's generator, or NumPy's."""

from __future__ import annotations

import numpy as np
import torch


class TorchDraws:
    """Draws from a `torch.Generator`, or from PyTorch's global one."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self._generator = generator

    def happens(self, probabilities: np.ndarray) -> np.ndarray:
        """For each probability, whether it comes true."""
        chances = torch.from_numpy(probabilities).to(torch.get_default_dtype())
        return torch.bernoulli(chances, generator=self._generator).bool().numpy()

    def tokens(self, vocabulary: int, where: np.ndarray) -> np.ndarray:
        """A random token for each place that is true."""
        tokens = torch.randint(vocabulary, where.shape, generator=self._generator)
        return tokens[torch.from_numpy(where)].numpy()

    def below(self, limit: int) -> int:
        """A whole number from 0 up to `limit`, exclusive."""
        return int(torch.randint(limit, (1,), generator=self._generator).item())

    def permutation(self, size: int) -> np.ndarray:
        """The numbers below `size` in random order."""
        return torch.randperm(size, generator=self._generator).numpy()


class NumpyDraws:
    """Draws from a `numpy.random.Generator`, or from NumPy's global state."""

    def __init__(self, generator: np.random.Generator | None = None) -> None:
        self._generator = generator

    def happens(self, probabilities: np.ndarray) -> np.ndarray:
        """For each probability, whether it comes true."""
        draw = np.random.binomial if self._generator is None else self._generator.binomial
        return np.asarray(draw(1, probabilities), dtype=bool)

    def tokens(self, vocabulary: int, where: np.ndarray) -> np.ndarray:
        """A random token for each place that is true."""
        draw = np.random.randint if self._generator is None else self._generator.integers
        return np.asarray(draw(0, vocabulary, size=np.count_nonzero(where), dtype=np.int64))

    def below(self, limit: int) -> int:
        """A whole number from 0 up to `limit`, exclusive."""
        return int(np.random.randint(limit) if self._generator is None else self._generator.integers(limit))

    def permutation(self, size: int) -> np.ndarray:
        """The numbers below `size` in random order."""
        return np.random.permutation(size) if self._generator is None else self._generator.permutation(size)
