"""What every process of a launch runs: one function of one module."""

from __future__ import annotations

import gc
import importlib
import sys
from pathlib import Path

import torch


def main() -> None:
    """Call the function that the command line names, then leave the process group in order."""
    module, function, output_dir = sys.argv[1:4]
    torch.set_num_threads(1)
    getattr(importlib.import_module(module), function)(Path(output_dir))
    gc.collect()  # a DDP wrapper that outlives its process group can abort the interpreter's end
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
