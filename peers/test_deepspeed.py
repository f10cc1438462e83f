"""DeepSpeed's ZeRO-1, 2 and 3, and its pipeline, against one device."""
import pytest
import torch
import torch.distributed as dist
from one_job import BATCH, CLOSE, RANKS, batches, difference, make_model, make_optimizer, mean_loss, one_device, set_environment, weights

from fsdl_course.parallel.processes import launch

STAGES = (1, 2, 3)


def prepare() -> None:
    "Import DeepSpeed for the CPU, without the C++ that it would compile for `inference_all_reduce`, which training never calls."
    import os

    os.environ["DS_ACCELERATOR"] = "cpu"
    set_environment()
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def hold_states_in_float64() -> None:
    """Let ZeRO keep its states in float64: DeepSpeed has no setting for it. Three functions that say float32 say float64.

    What is left as it is: the partitioning, the reducing and gathering, the step.
    """
    from deepspeed.runtime.base_optimizer import ZeROOptimizer
    from deepspeed.runtime.engine import DeepSpeedEngine

    chosen = ZeROOptimizer._configure_master_weights

    def master_weights(self, *args, **kwargs):
        assert chosen(self, *args, **kwargs) == torch.float32
        return torch.float64

    ZeROOptimizer._configure_master_weights = master_weights
    DeepSpeedEngine.get_data_types = lambda self: (torch.float64, torch.float64)  # of the model, and in which gradients are added up
    DeepSpeedEngine.communication_data_type = property(lambda self: torch.float64)


def zero_rank(dtype: torch.dtype, float64_states: bool, **settings) -> dict[int, tuple[dict, set]]:
    "One rank's weights after the job under each stage of ZeRO, and the dtypes of what its optimizer trains."
    prepare()
    import deepspeed

    if float64_states:
        hold_states_in_float64()
    found = {}
    for stage in STAGES:
        module = make_model(dtype)
        config = {
            "train_micro_batch_size_per_gpu": BATCH // RANKS,
            # Its reduce-scatter asserts that what is sent has 16 or 32 bits
            "zero_optimization": {"stage": stage, "reduce_scatter": not float64_states},
            "zero_allow_untested_optimizer": True,
            "gradient_clipping": 0.0,
            "steps_per_print": 10_000,
        }
        engine, optimizer, *_ = deepspeed.initialize(model=module, optimizer=make_optimizer(module), config=config | settings)
        for inputs, targets in batches(dist.get_rank(), dist.get_world_size()):
            engine.backward(mean_loss(engine(inputs), targets))
            engine.step()
        masters = optimizer.fp32_partitioned_groups_flat if stage == 3 else optimizer.single_partition_of_fp32_groups
        with deepspeed.zero.GatheredParameters(list(module.parameters()), enabled=stage == 3):
            found[stage] = weights(module), {master.dtype for master in masters}
    return found


@pytest.fixture(scope="module")
def float64_runs() -> list[dict]:
    return launch(zero_rank, RANKS, torch.float64, True, echo=False)


@pytest.fixture(scope="module")
def float32_runs() -> list[dict]:
    return launch(zero_rank, RANKS, torch.float64, False, echo=False)


@pytest.mark.parametrize("stage", STAGES)
def test_zero_gives_one_devices_weights(stage, float64_runs):
    ranks = [run[stage] for run in float64_runs]
    assert all(held == {torch.float64} for _, held in ranks)
    assert difference([found for found, _ in ranks], one_device()) <= CLOSE


@pytest.mark.parametrize("stage", STAGES)
def test_as_it_comes_zero_trains_a_float32_copy_of_a_float64_model(stage, float32_runs):
    ranks = [run[stage] for run in float32_runs]
    assert all(held == {torch.float32} for _, held in ranks)
    assert CLOSE < difference([found for found, _ in ranks], one_device()) <= 1e-4


def test_unless_told_otherwise_it_clips_gradients():
    "The default of DeepSpeed's `gradient_clipping` is 1.0, not off."
    ranks = launch(zero_rank, RANKS, torch.float64, True, gradient_clipping=1.0, echo=False)
    [default] = {default_clipping() for _ in range(1)}
    assert default == 1.0 and difference([run[1][0] for run in ranks], one_device()) > 1e-2
