"""Copy a module tree without its tensors."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain
from typing import TypeVar

from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def share(module: AnyModule) -> AnyModule:
    """Copy a module tree, but none of its tensors: replacing a layer of the copy leaves the original as it is."""
    tensors = chain(module.parameters(), module.buffers())
    return deepcopy(module, {id(tensor): tensor for tensor in tensors})
