"""A device that stands in for a GPU, so that a machine without one finds the faults of one.

Its tensors hold CPU memory, and operations run there. Like CUDA's they do not mix with tensors of
the CPU, except for numbers in elementwise operations and for indices; they have no ``numpy()``;
random numbers come from a generator of their own; and autocast has CUDA's lists. Kernels, streams,
memory, NCCL and ``torch.Generator(device=...)`` are not imitated.

torch lets a device be made in Python by hooks that it calls experimental. It knows only one such
device a process, and autograd counts the devices once, at the first backward pass: so this one is
made when the tests start. ``torch.accelerator`` is told that it is not available, since it has
neither pinned memory nor streams.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, wraps

import torch
from torch.utils._pytree import tree_leaves, tree_map

NAME = 'standin'
INDEXING = ('index', '_unsafe_index', 'index_put', 'index_put_', '_index_put_impl_')
# Factories that torch does not make of these two and an operation in place.
FACTORIES = ('empty', 'empty_strided', 'arange', 'eye', 'linspace', 'randperm')
# What CUDA's autocast computes in the lower precision, in fp32, and in the widest type given.
LOWER = ('addmm', 'baddbmm', 'bmm', 'conv1d', 'conv2d', 'linear', 'matmul', 'mm', 'mv', 'prelu')
FULL = (
    'acos', 'asin', 'binary_cross_entropy_with_logits', 'cosh', 'cosine_similarity', 'cumsum',
    'exp', 'expm1', 'group_norm', 'layer_norm', 'linalg_vector_norm', 'log', 'log1p', 'log_softmax',
    'logsumexp', 'mse_loss', 'nll_loss', 'norm', 'pow', 'prod', 'reciprocal', 'rsqrt', 'sinh',
    'softmax', 'softplus', 'sum', 'tan',
)  # fmt: skip
WIDEST = ('addcdiv', 'addcmul', 'atan2', 'dot', 'index_put', 'scatter_add')


class StandinTensor(torch.Tensor):
    """A tensor of the device; ``memory`` is what it holds, of the same shape and strides."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, memory: torch.Tensor) -> StandinTensor:
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            memory.shape,
            memory.stride(),
            memory.storage_offset(),
            dtype=memory.dtype,
            device=torch.device(NAME, 0),
        )
        self.memory = memory
        return self

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return run(op, *args, **(kwargs or {}))

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, value: StandinTensor) -> None:
        # torch exchanges only what it knows of; Module.half() comes here.
        torch.Tensor.data.__set__(self, value)
        self.memory = value.memory

    def numpy(self, *, force: bool = False):
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            'the tensor to host memory first.'
        )

    def tolist(self) -> list:
        return self.cpu().tolist()

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.dim() == 0 else str(self), spec)

    def __repr__(self, **kwargs) -> str:
        return f'{self.detach().cpu()!r} on {self.device}'

    def __reduce_ex__(self, protocol: int):
        content = self.detach().cpu(), self.dtype, str(self.device), self.requires_grad
        return torch._utils._rebuild_device_tensor_from_cpu_tensor, content


class Module:
    """``torch.standin``: what torch asks of a device's module."""

    random_state = torch.Generator().get_state()

    def is_available(self) -> bool:
        return False

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def manual_seed_all(self, seed: int) -> None:
        # Not the numbers that the CPU draws with this seed.
        self.random_state = torch.Generator().manual_seed(seed ^ 0x5EC0).get_state()

    def get_rng_state(self, device: int = 0) -> torch.Tensor:
        return self.random_state

    def set_rng_state(self, state: torch.Tensor, device: int = 0) -> None:
        self.random_state = state

    @contextmanager
    def own_randomness(self):
        kept = torch.get_rng_state()
        torch.set_rng_state(self.random_state)
        try:
            yield
        finally:
            self.random_state = torch.get_rng_state()
            torch.set_rng_state(kept)


MODULE = Module()


def run(op: torch._ops.OpOverload, *args, **kwargs):
    """Run an operation on the memory of its tensors, where CUDA would run it."""
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    _refuse_what_cuda_refuses(op, args, leaves, tensors)
    to_cpu = getattr(kwargs.get('device'), 'type', None) == 'cpu'
    args, kwargs = tree_map(_on_cpu, (args, kwargs))
    # What runs in place gives back what it was given.
    given = {id(_on_cpu(tensor)): tensor for tensor in tensors}

    def wrapped(value):
        if not isinstance(value, torch.Tensor):
            return value
        outer = given.get(id(value))
        if outer is None:
            return value if to_cpu else StandinTensor(value)
        if outer.shape != value.shape or outer.stride() != value.stride():
            raise NotImplementedError(f'{op} changes the shape of a tensor of {NAME}')
        return outer

    if torch.Tag.nondeterministic_seeded in op.tags:
        with MODULE.own_randomness():
            return tree_map(wrapped, op(*args, **kwargs))
    return tree_map(wrapped, op(*args, **kwargs))


def _on_cpu(value):
    if isinstance(value, StandinTensor):
        return value.memory
    return torch.device('cpu') if isinstance(value, torch.device) else value


def _refuse_what_cuda_refuses(op, args: tuple, leaves: list, tensors: list) -> None:
    name = op._schema.name.removeprefix('aten::')
    if any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if name == 'copy_':
        return
    if name in INDEXING:
        # The indices may be on the CPU.
        tensors = [args[0], *args[2:3]]
    mixed = name in INDEXING or name.startswith(('masked_fill', 'index_fill'))
    mixed |= torch.Tag.pointwise in op.tags
    for tensor in tensors:
        is_number = (
            mixed and tensor.dim() == 0 and not (op._schema.is_mutable and tensor is args[0])
        )
        if not isinstance(tensor, StandinTensor) and not is_number:
            raise RuntimeError(
                'Expected all tensors to be on the same device, but found at least two devices, '
                f'{NAME}:0 and {tensor.device}! ({op})'
            )


def _overloads(names: tuple[str, ...]) -> list[torch._ops.OpOverload]:
    packets = [getattr(torch.ops.aten, name) for name in names]
    found = [getattr(packet, name) for packet in packets for name in packet.overloads()]
    return [op for op in found if not any(a.is_out for a in op._schema.arguments)]


def _autocast(op: torch._ops.OpOverload, dtype_of, *args, **kwargs):
    def cast(value):
        # Where a part is not on the device, autocast leaves it to fail.
        floating = isinstance(value, StandinTensor) and value.is_floating_point()
        return value.to(dtype) if floating and value.dtype != torch.float64 else value

    dtype = dtype_of([v.dtype for v in tree_leaves(args) if isinstance(v, torch.Tensor)])
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    with torch._C._ExcludeDispatchKeyGuard(key):
        return op(*tree_map(cast, args), **tree_map(cast, kwargs))


def _widest(dtypes: list[torch.dtype]) -> torch.dtype:
    return torch.float32 if torch.float32 in dtypes else torch.get_autocast_dtype(NAME)


def _make() -> tuple[torch.library.Library, ...]:
    # Private, and not there in older releases.
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    class Hooks(torch._C._acc.PrivateUse1Hooks):
        def is_available(self) -> bool:
            return MODULE.is_available()

        def has_primary_context(self, device: int) -> bool:
            return True

        def is_built(self) -> bool:
            return True

    _setup_privateuseone_for_python_backend(NAME, MODULE, Hooks())
    library = torch.library.Library('aten', 'IMPL')
    # Autocast leaves all other operations as they are.
    rest = torch.library.Library('_', 'IMPL')
    rest.fallback(torch.library.fallthrough_kernel, 'AutocastPrivateUse1')
    for op in _overloads(FACTORIES):
        library.impl(op, partial(run, op), 'PrivateUse1')
    # torch.tensor comes here, to make a tensor of the device, and to read one.
    copy, item = torch.ops.aten.copy_.default, torch.ops.aten._local_scalar_dense.default
    library.impl('_copy_from', lambda source, to, _=False: run(copy, to, source), 'PrivateUse1')
    library.impl(item, partial(run, item), 'PrivateUse1')
    for names, dtype_of in (
        (LOWER, lambda _: torch.get_autocast_dtype(NAME)),
        (FULL, lambda _: torch.float32),
        (WIDEST, _widest),
    ):
        for op in _overloads(names):
            library.impl(op, partial(_autocast, op, dtype_of), 'AutocastPrivateUse1')
    return library, rest


def loading(load):
    """torch.load with the device as ``map_location``, which needs storages that it has not."""

    @wraps(load)
    def load_onto(file, map_location=None, **kwargs):
        named = isinstance(map_location, (str, torch.device))
        if not named or torch.device(map_location).type != NAME:
            return load(file, map_location=map_location, **kwargs)
        content = load(file, map_location='cpu', **kwargs)
        return tree_map(lambda v: v.to(NAME) if isinstance(v, torch.Tensor) else v, content)

    return load_onto


# Registrations end with the libraries. Next to a GPU it would be taken for the accelerator.
MISSING = 'there is a GPU' if torch.cuda.is_available() else None
if MISSING is None:
    try:
        LIBRARIES = _make()
    except (AttributeError, ImportError, TypeError) as error:
        MISSING = f'torch {torch.__version__} makes no device in Python as 2.13 to 2.15 do: {error}'
