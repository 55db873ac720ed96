"""Differential tests: the same script under ``transformers`` and under ``etude``."""
