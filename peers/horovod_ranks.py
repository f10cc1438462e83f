"""Horovod in the processes that `launch` has started, beside `torch.distributed`, in place of `horovodrun`."""
import os
from contextlib import contextmanager

import torch.distributed as dist
from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
from horovod.runner.http.http_server import RendezvousServer


@contextmanager
def horovod_ranks():
    """Inside a rank of `launch`: Horovod over gloo, with the same ranks. Gives the module `horovod.torch`.

    Rank 0 runs the small HTTP server at which Horovod's processes meet, as `horovodrun` does.
    """
    rank, world_size = dist.get_rank(), dist.get_world_size()
    port = [None]
    if rank == 0:
        server = RendezvousServer(verbose=0)
        port = [server.start()]
        server.init(get_host_assignments([HostInfo("127.0.0.1", world_size)], world_size))
    dist.broadcast_object_list(port, src=0)
    os.environ.update(
        HOROVOD_RANK=str(rank), HOROVOD_SIZE=str(world_size), HOROVOD_LOCAL_RANK=str(rank), HOROVOD_LOCAL_SIZE=str(world_size),
        HOROVOD_CROSS_RANK="0", HOROVOD_CROSS_SIZE="1", HOROVOD_HOSTNAME="127.0.0.1",
        HOROVOD_CONTROLLER="gloo", HOROVOD_CPU_OPERATIONS="gloo", HOROVOD_GLOO_IFACE=os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
        HOROVOD_GLOO_RENDEZVOUS_ADDR="127.0.0.1", HOROVOD_GLOO_RENDEZVOUS_PORT=str(port[0]),
    )
    import horovod.torch as hvd

    hvd.init()
    try:
        yield hvd
    finally:
        dist.barrier()
        hvd.shutdown()
        if rank == 0:
            server.stop()
