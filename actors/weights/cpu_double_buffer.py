"""New weights built beside the old ones, then put in their place between two engine steps.

On a CPU vLLM packs the weights of linear layers for its matrix kernels and frees the originals, so
loading in place means packing again while nothing is generated: 7 to 11 times a copy of the bytes
(measured). A `WeightPlan` packs in a background thread instead, from the same checkpoint tensors
and with vLLM's own loaders and packing functions, and a `Staged` set of weights takes their place
by changing references only. A second copy of the weights exists meanwhile.

A plan knows linear layers, embeddings, tied or untied output heads and plain parameters. For a
model with anything else there is none, and whoever asked loads in place. Imported only where vLLM
runs; source: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info
from vllm.model_executor.model_loader.reload.sanitize import restore_layer_refs
from vllm.model_executor.model_loader.weight_utils import default_weight_loader
from vllm.platforms import current_platform

Tensors = Mapping[str, torch.Tensor]

CANARY_ROWS = 5  # inputs that every layer has to answer alike before and after


class UnsupportedModelError(Exception):
    """The model holds something a plan does not know; its message says what."""


@dataclass(frozen=True)
class Shard:
    """One call that vLLM makes to a parameter's weight loader.

    Attributes:
        name: of the checkpoint tensor.
        marks: attributes that vLLM sets on the tensor for the loader to read (which shard it is).
        args, kwargs: what else the loader is given.
    """

    name: str
    marks: dict[str, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A parameter in checkpoint layout, and the calls that fill it.

    Attributes:
        template: a meta tensor with the parameter's class, shape and attributes.
    """

    template: torch.Tensor
    loader: Callable[..., Any]
    shards: list[Shard] = field(default_factory=list)

    def fill(self, memory: torch.Tensor, tensors: Tensors) -> torch.Tensor:
        """Load the shards into `memory`, a tensor of the template's shape and type."""
        parameter = memory.view(memory.shape)  # an object of its own: its class is changed below
        parameter.__class__ = self.template.__class__
        parameter.__dict__ = self.template.__dict__.copy()
        for shard in self.shards:
            tensor = tensors[shard.name]
            tensor.__dict__.update(shard.marks)
            self.loader(parameter, tensor, *shard.args, **shard.kwargs)
        return memory


@dataclass
class Staged:
    """Weights ready to be used.

    Attributes:
        kernels: packed matrix products by module.
        values: parameters that are kept as they are, with their new values.
    """

    kernels: list[tuple[torch.nn.Module, Callable[..., torch.Tensor]]] = field(default_factory=list)
    values: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def swap(self) -> Staged:
        """Put these weights in place and return the ones they replace.

        Called between two steps. It changes references only, so it takes about a microsecond a
        parameter whatever the size.
        """
        old = Staged(
            [(module, module.cpu_linear) for module, _ in self.kernels],
            [(parameter, parameter.data) for parameter, _ in self.values],
        )
        for module, kernel in self.kernels:
            module.cpu_linear = kernel
        for parameter, value in self.values:
            parameter.data = value
        return old


class WeightPlan:
    """How the parameters of one model are built from checkpoint tensors.

    Made once at engine start, while nothing runs.
    """

    def __init__(self, model: torch.nn.Module, tensors: Tensors) -> None:
        """Learn the plan from the checkpoint that the model was loaded from, and try it.

        Args:
            model: as vLLM has loaded it.
            tensors: every parameter of that checkpoint, by name.

        Raises:
            UnsupportedModelError: the model holds a kind of layer that is not known here, or a
                layer built by the plan does not answer exactly as vLLM's own.
        """
        self._names = set(tensors)
        self._targets = _record(model, tensors)
        for name, module in model.named_modules():
            _check(name, module, {key for owner, key in self._targets if owner == id(module)})
        self._modules = [
            (name, module) for name, module in model.named_modules() if module._parameters
        ]
        linear = [m for _, m in self._modules if isinstance(m, LinearBase)]
        sizes = [self._targets[id(m), "weight"].template.nbytes for m in linear]
        self._scratch = torch.empty(max(sizes, default=0), dtype=torch.uint8)
        self._spare: dict[int, torch.Tensor] = {}
        self._try(tensors)

    def prepare(self, tensors: Tensors) -> Staged:
        """Build all weights beside the ones in use.

        Safe to run in another thread while the model is stepped: it only reads `tensors` and writes
        to memory of its own.

        Raises:
            ValueError: `tensors` are not all parameters of the checkpoint.
        """
        if tensors.keys() != self._names:
            msg = f"{len(tensors)} tensors are not the checkpoint's {len(self._names)} parameters"
            raise ValueError(msg)
        staged = Staged()
        values: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for _, module in self._modules:
                if isinstance(module, LinearBase):
                    self._linear(module, tensors, staged)
                else:
                    self._kept(module, tensors, values, staged)
        return staged

    def reclaim(self, old: Staged) -> None:
        """Take back weights that are no longer used.

        Plain values are written to again next time, packed ones are freed here, off the engine's
        thread.
        """
        self._spare = {id(parameter): value for parameter, value in old.values}
        old.kernels.clear()
        old.values.clear()

    def _linear(self, module: LinearBase, tensors: Tensors, staged: Staged) -> None:
        """Stack a linear layer's shards in the scratch buffer and pack them."""
        target = self._targets[id(module), "weight"]
        template = target.template
        scratch = self._scratch[: template.nbytes].view(template.dtype).view(template.shape)
        # What vLLM packs is this stand-in, never the layer that is in use.
        layer = torch.nn.Module()
        layer.weight = torch.nn.Parameter(target.fill(scratch, tensors), requires_grad=False)
        if module.bias is not None:
            bias = self._targets[id(module), "bias"]
            value = bias.fill(torch.empty_like(bias.template, device="cpu"), tensors)
            layer.bias = torch.nn.Parameter(value, requires_grad=False)
        module.quant_method.process_weights_after_loading(layer)
        staged.kernels.append((module, layer.cpu_linear))
        if module.bias is not None:
            staged.values.append((module.bias, layer.bias.data))

    def _kept(
        self,
        module: torch.nn.Module,
        tensors: Tensors,
        values: dict[int, torch.Tensor],
        staged: Staged,
    ) -> None:
        """Parameters used as they are; an output head has a packed copy of its own beside them.

        `values` holds the new ones by parameter, so that tied ones are loaded once.
        """
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in values:
                target = self._targets[id(module), name]
                memory = self._spare.pop(id(parameter), None)
                memory = (
                    torch.empty_like(target.template, device="cpu") if memory is None else memory
                )
                values[id(parameter)] = target.fill(memory, tensors)
                staged.values.append((parameter, values[id(parameter)]))
        if isinstance(module, ParallelLMHead):
            layer = torch.nn.Module()
            layer.weight = torch.nn.Parameter(values[id(module.weight)], requires_grad=False)
            module.quant_method.process_weights_after_loading(layer)
            staged.kernels.append((module, layer.cpu_linear))
        elif isinstance(module, VocabParallelEmbedding):
            # Its packed copy serves models that use their embedding as the output head. This one
            # reads the weight it is given, so that there is nothing to go stale.
            staged.kernels.append((module, torch.nn.functional.linear))

    def _try(self, tensors: Tensors) -> None:
        """Build the weights in use once more and compare.

        Raises:
            UnsupportedModelError: some layer does not answer exactly as before.
        """
        staged = self.prepare(tensors)
        for parameter, value in staged.values:
            if not torch.equal(parameter, value):
                raise UnsupportedModelError(f"a parameter of shape {tuple(value.shape)} differs")
        names = {id(module): name for name, module in self._modules}
        for module, kernel in staged.kernels:
            target = self._targets.get((id(module), "weight"))
            weight = module.weight if target is None else target.template
            if kernel is not torch.nn.functional.linear and not _same_answers(
                module, kernel, weight.shape[1], weight.dtype
            ):
                raise UnsupportedModelError(f"{names[id(module)]} does not answer as before")
        self.reclaim(staged)


def plan_weight_swap(model: torch.nn.Module, tensors: Tensors) -> WeightPlan:
    """A plan for a model that vLLM has just loaded from `tensors`.

    Raises:
        UnsupportedModelError: there is none, and why.
    """
    if not current_platform.is_cpu() or current_platform.is_zen_cpu():
        raise UnsupportedModelError("only weights packed for the common CPU kernels are known")
    return WeightPlan(model, tensors)


def _same_answers(
    module: torch.nn.Module,
    kernel: Callable[..., torch.Tensor],
    columns: int,
    dtype: torch.dtype,
) -> bool:
    """Whether a packed weight gives bit for bit what the module's own gives."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(CANARY_ROWS, columns, generator=generator).to(dtype)
    bias = getattr(module, "bias", None)
    own = module.cpu_linear(inputs, module.weight, bias)
    return torch.equal(own, kernel(inputs, module.weight, bias))


def _check(name: str, module: torch.nn.Module, filled: set[str]) -> None:
    """Refuse a module that is not known.

    Args:
        name: of the module, for the message.
        module: any module of the model.
        filled: its parameters that the checkpoint fills.

    Raises:
        UnsupportedModelError: it is not known.
    """
    method = type(getattr(module, "quant_method", None))
    if isinstance(module, LinearBase):
        known = method is UnquantizedLinearMethod
        # Kept originals mean that the layer is not packed, or not in the usual way.
        known = known and hasattr(module, "cpu_linear") and not module.weight.numel()
        known = known and not getattr(module, "_cpu_skip_gemm_dispatch", False)
    elif isinstance(module, VocabParallelEmbedding):
        known = method is UnquantizedEmbeddingMethod and hasattr(module, "cpu_linear")
        known = known and getattr(module, "bias", None) is None
    else:  # a layer with work of its own after loading may derive values that are not seen here
        known = type(module) is Attention or not hasattr(module, "process_weights_after_loading")
    own = {key for key, parameter in module._parameters.items() if parameter is not None}
    if not known or not own <= filled:
        loose = f", {sorted(own - filled)} not in the checkpoint" if own - filled else ""
        raise UnsupportedModelError(f"{name} is a {type(module).__name__}{loose}")


def _record(model: torch.nn.Module, tensors: Tensors) -> dict[tuple[int, str], Target]:
    """Which loader calls vLLM makes for a checkpoint, by module id and parameter name.

    They are made on a shadow of the model whose parameters hold no memory and only take notes. Tied
    parameters share one target.

    Raises:
        UnsupportedModelError: vLLM changes tensors on their way to a loader, or leaves some out.
    """
    names = {(tensor.data_ptr(), tensor.shape): name for name, tensor in tensors.items()}
    targets: dict[tuple[int, str], Target] = {}
    by_parameter: dict[int, tuple[Target, torch.Tensor]] = {}
    stand_ins: dict[int, dict[str, torch.Tensor | None]] = {}
    for module in model.modules():
        stand_ins[id(module)] = dict.fromkeys(module._parameters)
        for name, live in module._parameters.items():
            if live is not None:
                if id(live) not in by_parameter:
                    by_parameter[id(live)] = _note_taker(module, name, names)
                targets[id(module), name], stand_ins[id(module)][name] = by_parameter[id(live)]
    _shadow(model, stand_ins, {}).load_weights(list(tensors.items()))
    seen = {shard.name for target in targets.values() for shard in target.shards}
    if seen != tensors.keys():
        raise UnsupportedModelError(f"vLLM does not load {sorted(tensors.keys() - seen)[:3]}")
    return {key: target for key, target in targets.items() if target.shards}


def _shadow(
    module: torch.nn.Module,
    parameters: Mapping[int, dict[str, torch.Tensor | None]],
    made: dict[int, torch.nn.Module],
) -> torch.nn.Module:
    """A module of the same class and attributes, with other parameters, and so its children.

    Args:
        module: to be shadowed.
        parameters: of the shadows, by id of the original module.
        made: shadows by id of the original, since modules may be shared.
    """
    if id(module) not in made:
        shadow = made[id(module)] = object.__new__(type(module))
        children = {
            name: None if child is None else _shadow(child, parameters, made)
            for name, child in module._modules.items()
        }
        own = {"_parameters": parameters[id(module)], "_modules": children}
        shadow.__dict__.update(module.__dict__ | own)
    return made[id(module)]


def _note_taker(
    module: torch.nn.Module, name: str, names: Mapping[tuple[int, torch.Size], str]
) -> tuple[Target, torch.Tensor]:
    """A target for one parameter, and a stand-in for it that records what is loaded into it."""
    recorded, _ = get_layerwise_info(module).restore_metadata
    if name not in recorded:
        # vLLM does not keep the layout of linear biases; they stay as they are.
        recorded = {name: module._parameters[name]}
    template = _on_meta(recorded[name], module)
    target = Target(template, getattr(template, "weight_loader", default_weight_loader))

    def take_note(_: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        source = names.get((tensor.data_ptr(), tensor.shape))
        if source is None:
            raise UnsupportedModelError(f"vLLM changes what it loads into {name}")
        target.shards.append(Shard(source, dict(tensor.__dict__), args, kwargs))

    stand_in = _on_meta(recorded[name], module)
    stand_in.weight_loader = take_note
    return target, stand_in


def _on_meta(tensor: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    """A tensor without memory, with the class and attributes of a parameter."""
    meta = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
    meta.__class__ = tensor.__class__
    meta.__dict__ = tensor.__dict__.copy()
    return restore_layer_refs(meta, module)
