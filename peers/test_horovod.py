"""Horovod's DistributedOptimizer against one device."""
import torch.distributed as dist
from horovod_ranks import horovod_ranks
from one_job import CLOSE, RANKS, batches, difference, make_model, make_optimizer, mean_loss, one_device, weights

from fsdl_course.parallel.processes import launch


def horovod_rank() -> tuple[dict, tuple]:
    "One rank's weights after the job, and what Horovod says of the ranks."
    with horovod_ranks() as hvd:
        module = make_model()
        optimizer = hvd.DistributedOptimizer(make_optimizer(module), named_parameters=module.named_parameters())
        hvd.broadcast_parameters(module.state_dict(), root_rank=0)
        for inputs, targets in batches(dist.get_rank(), dist.get_world_size()):
            optimizer.zero_grad()
            mean_loss(module(inputs), targets).backward()
            optimizer.step()
        return weights(module), (hvd.rank(), hvd.size(), hvd.gloo_enabled())


def test_distributed_optimizer_gives_one_devices_weights():
    ranks = launch(horovod_rank, RANKS, echo=False)
    assert [said for _, said in ranks] == [(0, RANKS, True), (1, RANKS, True)]
    assert difference([found for found, _ in ranks], one_device()) <= CLOSE
