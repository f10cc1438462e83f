"Layouts written for DeepSpeed and Megatron-LM, as the libraries themselves understand them."
import dataclasses
import os
from itertools import product
from unittest.mock import patch

import pytest

from fsdl_course.compute.configs import DEEPSPEED_PRECISION, can
from fsdl_course.spec import MODELS, OFFLOAD, Layout


class Ranks:
    "What DeepSpeed asks of whoever arranged the ranks."

    def __init__(self, dp: int):
        self.dp = dp

    def get_data_parallel_world_size(self) -> int:
        return self.dp


LAYOUTS = [
    Layout(dp=4, zero=zero, micro_batch=2, micro_batches=3, precision=precision, offload=offload, recompute=recompute)
    for zero, precision, offload, recompute in product(range(4), DEEPSPEED_PRECISION, OFFLOAD, ("none", "full"))
]
LAYOUTS += [Layout(dp=2, pp=4, micro_batches=8, zero=1, recompute="full"), Layout(dp=2, tp=2, zero=2)]


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if not can("deepspeed", layout)], ids=repr)
def test_deepspeeds_own_config_says_the_same(layout):
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.runtime.config import DeepSpeedConfig

    with patch("deepspeed.runtime.config.dist.get_rank", return_value=0):
        read = DeepSpeedConfig(layout.to("deepspeed", max_norm=0.5).data, mpu=Ranks(layout.dp))
    assert (read.world_size, read.train_micro_batch_size_per_gpu, read.gradient_accumulation_steps) == (layout.dp, layout.micro_batch, layout.micro_batches)
    assert (read.train_batch_size, read.zero_optimization_stage, read.gradient_clipping) == (layout.global_batch, layout.zero, 0.5)
    assert read.bfloat16_config.enabled == layout.precision.startswith("mixed") and read.torch_autocast_enabled == (layout.precision == "autocast")
    assert (read.zero_config.offload_optimizer is not None) == (layout.offload != "none")
    assert (read.zero_config.offload_param is not None) == (layout.offload == "all")
    assert read.pipeline["stages"] == (layout.pp if layout.pp > 1 else "auto")
    assert read.tensor_parallel_config.autotp_size == layout.tp * (layout.tp > 1)


def test_deepspeed_refuses_batches_that_do_not_multiply():
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.runtime.config import DeepSpeedConfig

    with patch("deepspeed.runtime.config.dist.get_rank", return_value=0), pytest.raises(AssertionError):
        DeepSpeedConfig(Layout(dp=4).to("deepspeed").data, mpu=Ranks(8))


# Arguments of Megatron-LM's scripts that are no fields of Megatron-core's classes under the same name, and what they become
ELSEWHERE = {
    "num_layers_per_virtual_pipeline_stage": "virtual_pipeline_model_parallel_size", "num_virtual_stages_per_pipeline_rank": "virtual_pipeline_model_parallel_size",
    "grad_reduce_in_bf16": "grad_reduce_in_fp32", "no_gradient_accumulation_fusion": "gradient_accumulation_fusion", "swiglu": "gated_linear_unit", "disable_bias_linear": "add_bias_linear",
}
SCRIPTS_OWN = {
    "micro_batch_size", "global_batch_size", "ckpt_format", "group_query_attention", "seq_length", "max_position_embeddings", "position_embedding_type", "rotary_base",
    "untie_embeddings_and_output_weights",
}


@pytest.mark.parametrize("layout", [
    Layout(dp=2, tp=2, pp=4, zero=1, micro_batches=8, schedule="interleaved", virtual_stages=2, sequence_parallel=True, recompute="full", precision="mixed"),
    Layout(dp=8, cp=2, zero=3, recompute="selective", precision="mixed-fp32-grads"),
    Layout(dp=4, zero=1, offload="optimizer", precision="mixed"),
], ids=repr)
def test_megatron_core_has_a_field_for_every_argument(layout):
    from megatron.core.distributed import DistributedDataParallelConfig
    from megatron.core.optimizer import OptimizerConfig
    from megatron.core.transformer import TransformerConfig

    known = {field.name for config in (TransformerConfig, DistributedDataParallelConfig, OptimizerConfig) for field in dataclasses.fields(config)}
    for model in (None, MODELS["llama-2-70b"]):
        names = {name.removeprefix("--").replace("-", "_") for name in layout.to("megatron", model).data} - SCRIPTS_OWN
        assert names and {ELSEWHERE.get(name, name) for name in names} <= known
