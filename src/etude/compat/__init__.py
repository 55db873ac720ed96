"""Code written for transformers' Trainer, run unchanged on etude: `install()` before it is imported.

    import etude.compat
    etude.compat.install()
    from trl import SFTTrainer          # now a subclass of etude.Trainer

Or, without touching the code: `python -m etude.compat script.py ...`, `python -m etude.compat -m package.module ...`,
and for its tests `pytest -p etude.compat.pytest_plugin`.
"""

from etude.compat.installation import install, is_installed, uninstall

__all__ = ["install", "is_installed", "uninstall"]
