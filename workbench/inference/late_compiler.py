"""bitsandbytes is imported without torch's compiler: what trains or answers starts sooner.

bitsandbytes 0.50.2 wraps four functions in ``torch.compile`` as it is imported, and PEFT imports it
always. That loads all of inductor: 1.4 s of the 9.2 s of processor time, and 45 MiB, that torch,
transformers, TRL and PEFT take to import. Its own kernels run in place of those functions, on
processors and GPUs; where one is called after all, it computes the same, step by step.

Installed by :mod:`workbench.inference`, which whatever uses PEFT imports first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_MODULE = "bitsandbytes.backends.default.ops"


class _Finder(MetaPathFinder):
    """Finds the one module, once."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Uncompiled(spec.loader)
        return spec


class _Uncompiled(Loader):
    """Loads a module while ``torch.compile`` returns functions as they are."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        import torch

        compiles = torch.compile
        vars(torch)["compile"] = _as_it_is
        try:
            self._loader.exec_module(module)
        finally:
            vars(torch)["compile"] = compiles


def _as_it_is(model: Callable[..., object] | None = None, **_: object) -> Callable[..., Any]:
    return model if model is not None else _as_it_is


def install() -> None:
    """Have bitsandbytes imported so from now on."""
    if _MODULE not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
