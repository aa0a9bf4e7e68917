"""The published pickles of StyleGAN3: networks as source text and attributes, of which only the attributes are read.

Every module in such a pickle is one call that would run its source text. Here the text is dropped unread, and the call
becomes a `Bag` of attributes. Every storage is a legacy stream of `torch.save` inside the pickle, where code could hide
again: its head is read by the same restricted interpreter, its numbers only for the network that is requested.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generation.errors import WeightsError
from generation.weights.mapped import ByteReader, map_file, printable
from generation.weights.pickle_stream import Bag, Refused, Rules, kind_of, read_stream
from generation.weights.state import state_dict
from generation.weights.storages import BUILDS, NUMPY_CALLS, NUMPY_NAMES, Storage, check_extent, ordered_dict, strided
from generation.weights.torch_legacy import read_storage

PROTO = 0x80  # the first instruction of a pickle
PERSISTENCE_VERSION = 6
COPIED_PER_FILE = 2  # tensors that are not contiguous are copied, to this many times the size of the file
SLACK_BYTES = 64 << 20
MAX_ARGUMENTS = 1000


@dataclass(frozen=True)
class StyleganNetwork:
    """One network of a pickle.

    Attributes:
        class_name: of the published implementation, such as "Generator".
        state: its tensors by name, contiguous.
        init_kwargs: arguments of its constructor; plain values.
    """

    class_name: str
    state: dict[str, torch.Tensor]
    init_kwargs: dict[str, Any]


@dataclass(frozen=True)
class LazyTensor:
    """A tensor whose numbers are not read yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_stylegan(path: Path, network: str = "G_ema") -> StyleganNetwork:
    """Reads one network of a StyleGAN pickle, running nothing in it.

    Args:
        path: the .pkl file.
        network: "G_ema" is the averaged generator, the one to use; "G" and "D" are there too.

    Raises:
        WeightsError: another kind of file, damaged, or it contains a refused value, which is named.
    """
    file = str(path)
    source = ByteReader(map_file(path), file)
    if source.view[0] != PROTO:
        raise WeightsError(f"{file}: is not a StyleGAN pickle; name the downloaded .pkl file")
    value = read_stream(source, _Rules(file).rules())
    if source.position != len(source.view):
        raise WeightsError(f"{file}: has bytes after its end; it is damaged, fetch it again")
    bag = value.get(network) if type(value) is dict else None
    if type(bag) is not Bag:
        raise WeightsError(f"{file}: contains no network {network}; name a StyleGAN pickle")
    arguments = _plain_arguments(bag, file)
    _resolve(bag, file, COPIED_PER_FILE * len(source.view) + SLACK_BYTES)
    return StyleganNetwork(bag.kind, state_dict(bag, file=file), arguments)


class _Rules:
    """What the stream may contain; storages are kept by the bytes that they are made of."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.storages: dict[int, tuple[memoryview, Storage]] = {}

    def rules(self) -> Rules:
        calls: dict[str, Callable[..., Any]] = {
            "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
            "dnnlib.util.EasyDict": dict,
            "collections.OrderedDict": ordered_dict,
            "torch._utils._rebuild_tensor_v2": _lazy_tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "torch.storage._load_from_bytes": self.storage,
            **NUMPY_CALLS,
        }
        return Rules(calls, NUMPY_NAMES, builds=BUILDS, has_views=True)

    def storage(self, content: Any) -> Storage:
        """The storage in nested bytes; the same bytes give the same storage."""
        if type(content) is not memoryview:
            raise Refused(f"a storage from {kind_of(content)}")
        if id(content) not in self.storages:
            self.storages[id(content)] = content, read_storage(content, f"{self.file}: storage {len(self.storages)}")
        return self.storages[id(content)][1]


def _persistent_object(meta: Any) -> Bag:
    """A module from its description: "type", "version", "module_src", "class_name" and "state"."""
    if type(meta) is not dict or (meta.get("type"), meta.get("version")) != ("class", PERSISTENCE_VERSION):
        raise Refused("a persistent object of an unknown kind or version")
    kind, state = meta.get("class_name"), meta.get("state")
    if type(kind) is not str or type(state) is not dict:
        raise Refused("a persistent object without class or attributes")
    bag = Bag(printable(kind))
    bag.build(state)
    return bag


def _lazy_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> LazyTensor:
    if type(storage) is not Storage:
        raise Refused("a tensor without storage")
    check_extent(storage.num_elements, offset, size, stride)
    return LazyTensor(storage, offset, size, stride)


def _resolve(bag: Bag, file: str, most_bytes: int) -> None:
    """Makes tensors of the lazy ones below a module, copying at most `most_bytes`."""
    todo, seen, left = [bag], {id(bag)}, most_bytes
    while todo:
        state = todo.pop().state
        for part in ("_parameters", "_buffers"):
            values = state.get(part)
            if type(values) is not dict:
                continue
            for name, lazy in values.items():
                if type(lazy) is not LazyTensor:
                    continue
                tensor = strided(lazy.storage, lazy.offset, lazy.size, lazy.stride)
                left -= 0 if tensor.is_contiguous() else tensor.nbytes
                if left < 0:
                    raise WeightsError(f"{file}: its tensors are far larger than the file; do not use it")
                values[name] = tensor.contiguous()
        modules = state.get("_modules")
        below = [one for one in modules.values() if type(one) is Bag] if type(modules) is dict else []
        todo.extend(one for one in below if id(one) not in seen)
        seen |= {id(one) for one in below}


def _plain_arguments(bag: Bag, file: str) -> dict[str, Any]:
    """The arguments of a module's constructor, all of them by name in the published files."""
    arguments, unnamed = bag.state.get("_init_kwargs"), bag.state.get("_init_args")
    if type(arguments) is not dict or unnamed != () or not _is_plain(arguments):
        raise WeightsError(f"{file}: does not say in plain values how it was made; name a StyleGAN3 pickle")
    return arguments


def _is_plain(value: Any) -> bool:
    """Whether a value consists of numbers, texts, lists and dicts only, and not too many."""
    todo = [value]
    for _ in range(MAX_ARGUMENTS):
        if not todo:
            return True
        item = todo.pop()
        if type(item) is dict:
            todo.extend((*item, *item.values()))
        elif type(item) in (list, tuple):
            todo.extend(item)
        elif type(item) not in (str, int, float, bool, type(None)):
            return False
    return False
