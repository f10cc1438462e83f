"""FairScale's OSS with ShardedDataParallel (ZeRO-2), its FullyShardedDataParallel (ZeRO-3) and its Pipe, against one device."""
import pytest
import torch
import torch.distributed as dist
from one_job import ADAMW, CLOSE, RANKS, as_layers, batches, difference, make_model, make_optimizer, mean_loss, one_device, weights
from torch import nn

from fsdl_course.parallel.data import relative_difference
from fsdl_course.parallel.processes import RankError, launch


def sharded_rank(whose_zero_grad: str) -> tuple[dict, int]:
    "One rank's weights after the job, and how many numbers its optimizer holds."
    from fairscale.nn.data_parallel import ShardedDataParallel
    from fairscale.optim import OSS

    module = make_model()
    optimizer = OSS(module.parameters(), optim=torch.optim.AdamW, **ADAMW)
    replica = ShardedDataParallel(module, optimizer)
    for inputs, targets in batches(dist.get_rank(), dist.get_world_size()):
        (replica if whose_zero_grad == "replica" else optimizer).zero_grad()
        mean_loss(replica(inputs), targets).backward()
        optimizer.step()
    held = sum(state["exp_avg"].numel() for state in optimizer.optim.state.values())
    return weights(module), held


def test_oss_and_sharded_data_parallel_give_one_devices_weights():
    ranks = launch(sharded_rank, RANKS, "replica", echo=False)
    assert difference([found for found, _ in ranks], one_device()) <= CLOSE
    held = [moments for _, moments in ranks]
    assert sum(held) == sum(parameter.numel() for parameter in make_model().parameters()) and max(held) <= 0.6 * sum(held)


def test_with_the_optimizers_zero_grad_it_trains_on_wrong_gradients_and_says_nothing():
    "PyTorch 2's `zero_grad` drops the gradients, and with them FairScale's views into its buckets; the ranks stay equal all the same."
    ranks = launch(sharded_rank, RANKS, "optimizer", echo=False)
    assert difference([found for found, _ in ranks], one_device()) > 0.1


def fsdp_rank(dtype: torch.dtype) -> dict:
    "One rank's gathered weights after the job under FairScale's FSDP."
    from fairscale.nn import FullyShardedDataParallel

    replica = FullyShardedDataParallel(make_model(dtype), compute_device=torch.device("cpu"))
    optimizer = make_optimizer(replica)
    for inputs, targets in batches(dist.get_rank(), dist.get_world_size()):
        optimizer.zero_grad()
        mean_loss(replica(inputs), targets).backward()
        optimizer.step()
    with replica.summon_full_params():
        return {name: tensor.clone() for name, tensor in replica.state_dict().items()}


def test_fsdp_refuses_float64():
    with pytest.raises(RankError, match="ValueError: Expecting FP16 param type in FP32 & MP modes"):
        launch(fsdp_rank, RANKS, torch.float64, echo=False)


def pipe_rank() -> dict:
    "The weights after the job in 4 micro-batches: both stages in one process, each with a thread of its own."
    from fairscale.nn import Pipe

    decoder = make_model()
    names = {parameter: name for name, parameter in decoder.named_parameters()}
    pipe = Pipe(nn.Sequential(*as_layers(decoder)), balance=[2, 2], devices=["cpu", "cpu"], chunks=4)
    optimizer = make_optimizer(pipe)
    for inputs, targets in batches():
        optimizer.zero_grad()
        mean_loss(pipe(inputs), targets).backward()
        optimizer.step()
    return {names[parameter]: parameter.detach().clone() for parameter in pipe.parameters()}


def test_pipe_gives_one_devices_weights():
    "In a process that is ended afterwards: its threads keep Python from coming to an end."
    [trained] = launch(pipe_rank, 1, echo=False)
    assert relative_difference(trained, one_device()) <= CLOSE
