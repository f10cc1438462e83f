"""Megatron-core's column- and row-parallel layers in this course's transformer, against one device."""
import torch
import torch.distributed as dist
from one_job import ADAMW, CLOSE, MODEL, RANKS, batches, make_model, mean_loss, one_device, weights
from torch import nn

from fsdl_course.parallel.data import relative_difference
from fsdl_course.parallel.processes import launch

# The layers whose outputs are shared out among the ranks, and those whose inputs are
COLUMNS, ROWS = ("query", "key", "value", "up"), ("out", "down")


class OutputOnly(nn.Module):
    "Megatron's layers give (output, bias to be added later, or None)."

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


def parallel_layer(name: str, linear: nn.Linear, config) -> nn.Module:
    "Megatron's layer with this rank's part of a linear layer's weights."
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear

    rank, n = dist.get_rank(), dist.get_world_size()
    make = {"config": config, "init_method": torch.nn.init.zeros_, "bias": True}
    weight, bias = linear.weight.detach(), linear.bias.detach()
    if name in COLUMNS:
        layer = ColumnParallelLinear(linear.in_features, linear.out_features, gather_output=False, **make)
        weight, bias = weight.chunk(n, 0)[rank], bias.chunk(n)[rank]
    else:
        layer = RowParallelLinear(linear.in_features, linear.out_features, input_is_parallel=True, skip_bias_add=False, **make)
        weight = weight.chunk(n, 1)[rank]
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return OutputOnly(layer)


def tensor_parallel_rank() -> dict:
    "One rank's part of the weights after the job: every rank sees the whole batch."
    from megatron.core import ModelParallelConfig, parallel_state

    parallel_state.initialize_model_parallel(tensor_model_parallel_size=dist.get_world_size())
    config = ModelParallelConfig(tensor_model_parallel_size=dist.get_world_size(), params_dtype=torch.float64, use_cpu_initialization=True)
    module = make_model()
    for block in module.blocks.children():
        for part in (block.attention, block.mlp):
            for name, linear in list(part.named_children()):
                if name in COLUMNS + ROWS:
                    setattr(part, name, parallel_layer(name, linear, config))
    optimizer = torch.optim.AdamW(module.parameters(), **ADAMW)
    for inputs, targets in batches():
        optimizer.zero_grad()
        mean_loss(module(inputs), targets).backward()
        optimizer.step()
    return {name.replace(".layer.", "."): tensor for name, tensor in weights(module).items()}


def whole(name: str, parts: list[torch.Tensor]) -> torch.Tensor:
    "A tensor put together from what the ranks hold. Raises AssertionError if what they all should hold differs."
    layer, kind = name.split(".")[-2:]
    if layer in COLUMNS:
        return torch.cat(parts)
    if layer in ROWS and kind == "weight":
        return torch.cat(parts, dim=1)
    assert all(torch.equal(part, parts[0]) for part in parts[1:]), f"the ranks differ in {name}"
    return parts[0]


def test_tensor_parallel_layers_give_one_devices_weights():
    ranks = launch(tensor_parallel_rank, RANKS, echo=False)
    assert ranks[0]["blocks.0.attention.query.weight"].shape == (MODEL.hidden // RANKS, MODEL.hidden)
    trained = {name: whole(name, [rank[name] for rank in ranks]) for name in ranks[0]}
    assert relative_difference(trained, one_device()) <= CLOSE
