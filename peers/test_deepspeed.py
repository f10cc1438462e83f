"""DeepSpeed's ZeRO-1, 2 and 3, and its pipeline, against one device."""
import os

import pytest
import torch
import torch.distributed as dist
from one_job import BATCH, CLOSE, RANKS, as_layers, batches, difference, make_model, make_optimizer, mean_loss, one_device, set_environment, weights

from fsdl_course.parallel.data import relative_difference
from fsdl_course.parallel.processes import RankError, launch


def prepare() -> None:
    "Import DeepSpeed for the CPU, without the C++ that it would compile for `inference_all_reduce`, which training never calls."
    os.environ["DS_ACCELERATOR"] = "cpu"
    set_environment()
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    from deepspeed.runtime.zero.partition_parameters import InsertPostInitMethodToModuleSubClasses

    # The dtype of layers that are made later. None are made here, and on processors that compute in 16 bits it refuses a float64 model
    InsertPostInitMethodToModuleSubClasses._set_dtype = lambda self, ds_config, dtype: setattr(self, "dtype", torch.float32)


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


def zero_rank(float64_states: bool, runs: dict[str, tuple[int, dict]]) -> dict[str, tuple[dict, set]]:
    "One rank's weights after each of the `runs` (a stage of ZeRO, and settings), and the dtypes of what its optimizer trains."
    prepare()
    import deepspeed

    if float64_states:
        hold_states_in_float64()
    found = {}
    for name, (stage, settings) in runs.items():
        module = make_model()
        config = {
            "train_micro_batch_size_per_gpu": BATCH // RANKS,
            # Its reduce-scatter asserts that what is sent has 16 or 32 bits
            "zero_optimization": {"stage": stage, "reduce_scatter": not float64_states},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 10_000,
        }
        engine, optimizer, *_ = deepspeed.initialize(model=module, optimizer=make_optimizer(module), config=config | settings)
        for inputs, targets in batches(dist.get_rank(), dist.get_world_size()):
            engine.backward(mean_loss(engine(inputs), targets))
            engine.step()
        masters = optimizer.fp32_partitioned_groups_flat if stage == 3 else optimizer.single_partition_of_fp32_groups
        with deepspeed.zero.GatheredParameters(list(module.parameters()), enabled=stage == 3):
            found[name] = weights(module), {master.dtype for master in masters}
    return found


# Without the setting, DeepSpeed clips gradients to a norm of 1
STAGES = {f"ZeRO-{stage}": (stage, {"gradient_clipping": 0.0}) for stage in (1, 2, 3)}


@pytest.fixture(scope="module")
def float64_runs() -> list[dict]:
    return launch(zero_rank, RANKS, True, STAGES | {"as it comes": (1, {})}, echo=False, timeout=500)


@pytest.fixture(scope="module")
def float32_runs() -> list[dict]:
    return launch(zero_rank, RANKS, False, STAGES, echo=False, timeout=500)


@pytest.mark.parametrize("stage", STAGES)
def test_zero_gives_one_devices_weights(stage, float64_runs):
    ranks = [run[stage] for run in float64_runs]
    assert all(held == {torch.float64} for _, held in ranks)
    assert difference([found for found, _ in ranks], one_device()) <= CLOSE


def test_unless_told_otherwise_it_clips_gradients(float64_runs):
    assert difference([run["as it comes"][0] for run in float64_runs], one_device()) > 0.01


@pytest.mark.parametrize("stage", STAGES)
def test_without_help_zero_trains_a_float32_copy_of_a_float64_model(stage, float32_runs):
    ranks = [run[stage] for run in float32_runs]
    assert all(held == {torch.float32} for _, held in ranks)
    assert CLOSE < difference([found for found, _ in ranks], one_device()) <= 1e-4


def pipeline_rank(reduce_alone: bool) -> dict:
    "The weights of one rank's stage after the job, in 4 micro-batches; `reduce_alone`: as it comes, a stage without replicas reduces its gradients too."
    prepare()
    import deepspeed
    from deepspeed.pipe import PipelineModule

    deepspeed.init_distributed()
    decoder = make_model()
    names = {parameter: name for name, parameter in decoder.named_parameters()}
    module = PipelineModule(layers=as_layers(decoder), num_stages=RANKS, loss_fn=mean_loss, partition_method="uniform")
    pieces = 4
    config = {
        "train_micro_batch_size_per_gpu": BATCH // pieces,
        "gradient_accumulation_steps": pieces,
        "gradient_clipping": 0.0,
        "steps_per_print": 10_000,
    }
    engine, *_ = deepspeed.initialize(model=module, optimizer=make_optimizer(module), config=config)
    if not reduce_alone:
        engine.allreduce_gradients = lambda *args, **kwargs: None  # it refuses float64, and there is one replica
    for inputs, targets in batches():
        engine.train_batch(data_iter=iter(zip(inputs.chunk(pieces), targets.chunk(pieces))))
    return {names[parameter]: parameter.detach().clone() for parameter in module.parameters()}


def test_the_pipeline_gives_one_devices_weights():
    first, last = launch(pipeline_rank, RANKS, False, echo=False, timeout=500)
    assert not set(first) & set(last) and len(first) > 5 < len(last)
    assert relative_difference(first | last, one_device()) <= CLOSE


def test_the_pipeline_refuses_float64_gradients():
    with pytest.raises(RankError, match="attempting to reduce an unsupported grad type: torch.float64"):
        launch(pipeline_rank, RANKS, True, echo=False, timeout=500)
