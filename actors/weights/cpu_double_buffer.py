"""Double-buffered weights for vLLM on CPU: build beside the old ones, swap between two steps.

On a CPU vLLM packs the weights of linear layers for its matrix kernels and frees the originals, so
loading in place means packing again while generation stalls: 7 to 11 times the time of a memory
copy of the weights (measured). A `WeightPlan` packs in a background thread instead, from the same
checkpoint tensors and with vLLM's own loaders and packing functions. `StagedWeights.swap` then puts
the result in place by changing references only. Until then two copies of the weights exist.

A plan supports linear layers, embeddings, tied or untied output heads and plain parameters. There
is no plan for a model with anything else; its weights are loaded in place. Imported only where vLLM
runs. Source: ours.
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

CANARY_ROWS = 5  # random inputs on which a layer built by the plan is compared with vLLM's own


class UnsupportedModelError(Exception):
    """The model has a layer or parameter that a plan does not support; the message names it."""


@dataclass(frozen=True)
class Shard:
    """One call that vLLM makes to a parameter's weight loader.

    Attributes:
        name: of the checkpoint tensor.
        attributes: those that vLLM sets on the tensor for the loader to read (which shard it is).
        args, kwargs: further arguments of the loader.
    """

    name: str
    attributes: dict[str, Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A parameter in checkpoint layout, and the loader calls that fill it.

    Attributes:
        template: a meta tensor with the parameter's class, shape and attributes.
        loader: the parameter's weight loader.
        shards: the loader calls, in order.
    """

    template: torch.Tensor
    loader: Callable[..., Any]
    shards: list[Shard] = field(default_factory=list)

    def fill(self, memory: torch.Tensor, tensors: Tensors) -> torch.Tensor:
        """Load the shards into `memory`, a tensor of the template's shape and type."""
        parameter = memory.view(memory.shape)  # a new object, since its class is changed below
        parameter.__class__ = self.template.__class__
        parameter.__dict__ = self.template.__dict__.copy()
        for shard in self.shards:
            tensor = tensors[shard.name]
            tensor.__dict__.update(shard.attributes)
            self.loader(parameter, tensor, *shard.args, **shard.kwargs)
        return memory


@dataclass
class StagedWeights:
    """A complete set of weights, built and ready to be swapped in.

    Attributes:
        kernels: modules with their new packed matrix products.
        values: parameters that are not packed, with their new values.
    """

    kernels: list[tuple[torch.nn.Module, Callable[..., torch.Tensor]]] = field(default_factory=list)
    values: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def swap(self) -> StagedWeights:
        """Put these weights in place and return the ones they replace.

        Called between two steps. It changes references only: about a microsecond per parameter,
        whatever the size.
        """
        old = StagedWeights(
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

    Made once at engine start, before the first step.
    """

    def __init__(self, model: torch.nn.Module, tensors: Tensors) -> None:
        """Derive the plan from the checkpoint that the model was loaded from, and verify it.

        Args:
            model: as vLLM has loaded it.
            tensors: every parameter of that checkpoint, by name.

        Raises:
            UnsupportedModelError: the model has a kind of layer that is not supported, or the
                outputs of a layer built by the plan differ from those of vLLM's own.
        """
        self._names = set(tensors)
        self._targets = _record_targets(model, tensors)
        for name, module in model.named_modules():
            _check(name, module, {key for owner, key in self._targets if owner == id(module)})
        self._modules = [
            (name, module) for name, module in model.named_modules() if module._parameters
        ]
        linear = [m for _, m in self._modules if isinstance(m, LinearBase)]
        sizes = [self._targets[id(m), "weight"].template.nbytes for m in linear]
        self._scratch = torch.empty(max(sizes, default=0), dtype=torch.uint8)
        self._spare: dict[int, torch.Tensor] = {}
        self._verify(tensors)

    def prepare(self, tensors: Tensors) -> StagedWeights:
        """Build all weights beside the ones in use.

        Safe to run in another thread while the model is stepped: it only reads `tensors` and writes
        to separate memory.

        Raises:
            ValueError: `tensors` are not exactly the checkpoint's parameters.
        """
        if tensors.keys() != self._names:
            msg = f"{len(tensors)} tensors are not the checkpoint's {len(self._names)} parameters"
            raise ValueError(msg)
        staged = StagedWeights()
        values: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for _, module in self._modules:
                if isinstance(module, LinearBase):
                    self._build_linear(module, tensors, staged)
                else:
                    self._build_plain(module, tensors, values, staged)
        return staged

    def reclaim(self, old: StagedWeights) -> None:
        """Recycle weights that were swapped out.

        The memory of plain values is reused by the next `prepare`; packed weights are freed here,
        off the engine's thread.
        """
        self._spare = {id(parameter): value for parameter, value in old.values}
        old.kernels.clear()
        old.values.clear()

    def _build_linear(self, module: LinearBase, tensors: Tensors, staged: StagedWeights) -> None:
        """Load a linear layer's shards into the scratch buffer and pack them."""
        target = self._targets[id(module), "weight"]
        template = target.template
        scratch = self._scratch[: template.nbytes].view(template.dtype).view(template.shape)
        # vLLM packs this stand-in; the layer in use is not touched.
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

    def _build_plain(
        self,
        module: torch.nn.Module,
        tensors: Tensors,
        values: dict[int, torch.Tensor],
        staged: StagedWeights,
    ) -> None:
        """Load parameters that are not packed; an output head gets a packed copy as well.

        `values` holds the new values by parameter id, so that tied parameters are loaded once.
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
            # Its packed copy serves models that use their embedding as the output head. A plain
            # `linear` reads the current weight instead, so no packed copy can become stale.
            staged.kernels.append((module, torch.nn.functional.linear))

    def _verify(self, tensors: Tensors) -> None:
        """Build the weights in use a second time and compare.

        Raises:
            UnsupportedModelError: a value, or the output of a layer, is not bit for bit the same.
        """
        staged = self.prepare(tensors)
        for parameter, value in staged.values:
            if not torch.equal(parameter, value):
                raise UnsupportedModelError(f"a parameter of shape {tuple(value.shape)} differs")
        names = {id(module): name for name, module in self._modules}
        for module, kernel in staged.kernels:
            target = self._targets.get((id(module), "weight"))
            weight = module.weight if target is None else target.template
            if kernel is not torch.nn.functional.linear and not _same_outputs(
                module, kernel, weight.shape[1], weight.dtype
            ):
                raise UnsupportedModelError(f"{names[id(module)]} has other outputs than before")
        self.reclaim(staged)


def plan_weight_swap(model: torch.nn.Module, tensors: Tensors) -> WeightPlan:
    """A plan for a model that vLLM has just loaded from `tensors`.

    Raises:
        UnsupportedModelError: the platform or the model is not supported.
    """
    if not current_platform.is_cpu() or current_platform.is_zen_cpu():
        raise UnsupportedModelError("only weights packed for the common CPU kernels are supported")
    return WeightPlan(model, tensors)


def _same_outputs(
    module: torch.nn.Module,
    kernel: Callable[..., torch.Tensor],
    columns: int,
    dtype: torch.dtype,
) -> bool:
    """True where a packed weight gives bit for bit the outputs of the module's own."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(CANARY_ROWS, columns, generator=generator).to(dtype)
    bias = getattr(module, "bias", None)
    own = module.cpu_linear(inputs, module.weight, bias)
    return torch.equal(own, kernel(inputs, module.weight, bias))


def _check(name: str, module: torch.nn.Module, filled: set[str]) -> None:
    """Refuse a module that a plan does not support.

    Args:
        name: of the module, for the message.
        module: any module of the model.
        filled: those of its parameters that the checkpoint fills.

    Raises:
        UnsupportedModelError: it is not supported.
    """
    method = type(getattr(module, "quant_method", None))
    if isinstance(module, LinearBase):
        known = method is UnquantizedLinearMethod
        # A layer that keeps its original weight is not packed, or not in the usual way.
        known = known and hasattr(module, "cpu_linear") and not module.weight.numel()
        known = known and not getattr(module, "_cpu_skip_gemm_dispatch", False)
    elif isinstance(module, VocabParallelEmbedding):
        known = method is UnquantizedEmbeddingMethod and hasattr(module, "cpu_linear")
        known = known and getattr(module, "bias", None) is None
    else:  # a layer with its own post-processing may derive values that a plan does not see
        known = type(module) is Attention or not hasattr(module, "process_weights_after_loading")
    own = {key for key, parameter in module._parameters.items() if parameter is not None}
    if not known or not own <= filled:
        loose = f", {sorted(own - filled)} not in the checkpoint" if own - filled else ""
        raise UnsupportedModelError(f"{name} is a {type(module).__name__}{loose}")


def _record_targets(model: torch.nn.Module, tensors: Tensors) -> dict[tuple[int, str], Target]:
    """The loader calls that vLLM makes for a checkpoint, by module id and parameter name.

    vLLM loads the checkpoint into a shadow of the model whose parameters hold no memory and only
    record the calls. Tied parameters share one target.

    Raises:
        UnsupportedModelError: vLLM changes tensors before it calls a loader, or skips some.
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
                    by_parameter[id(live)] = _recorder(module, name, names)
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
    """A copy of a module and its children: same class and attributes, other parameters.

    Args:
        module: the original.
        parameters: parameters of the copies, by id of the original module.
        made: copies so far, by id of the original, since modules may be shared.
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


def _recorder(
    module: torch.nn.Module, name: str, names: Mapping[tuple[int, torch.Size], str]
) -> tuple[Target, torch.Tensor]:
    """The target of one parameter, and a stand-in for it that records what is loaded into it."""
    layouts, _ = get_layerwise_info(module).restore_metadata
    if name not in layouts:
        # vLLM records no layout of linear biases, since it does not change them.
        layouts = {name: module._parameters[name]}
    template = _on_meta(layouts[name], module)
    target = Target(template, getattr(template, "weight_loader", default_weight_loader))

    def record(_: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        source = names.get((tensor.data_ptr(), tensor.shape))
        if source is None:
            raise UnsupportedModelError(f"vLLM changes what it loads into {name}")
        target.shards.append(Shard(source, dict(tensor.__dict__), args, kwargs))

    stand_in = _on_meta(layouts[name], module)
    stand_in.weight_loader = record
    return target, stand_in


def _on_meta(tensor: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    """A tensor without memory, with the class and attributes of a parameter."""
    meta = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
    meta.__class__ = tensor.__class__
    meta.__dict__ = tensor.__dict__.copy()
    return restore_layer_refs(meta, module)
