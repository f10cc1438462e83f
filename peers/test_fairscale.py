"""FairScale's OSS with ShardedDataParallel (ZeRO-2), and its FullyShardedDataParallel (ZeRO-3), against one device."""
import pytest
import torch
import torch.distributed as dist
from one_job import ADAMW, CLOSE, RANKS, batches, difference, make_model, make_optimizer, mean_loss, one_device, weights

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
