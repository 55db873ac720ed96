"""How the suites look for counterexamples: the same ones in every run, without a clock and without a memory."""

from __future__ import annotations

from hypothesis import settings

quick = settings(max_examples=80, deadline=None, derandomize=True, database=None)
