"Layouts written for DeepSpeed and Megatron-LM, as the libraries themselves understand them."
import dataclasses
import os
import random
from itertools import product
from unittest.mock import patch

import pytest

from fsdl_course.compute.configs import DEEPSPEED_PRECISION, can, find_word, known_words, read, stages_of
from fsdl_course.spec import MODELS, OFFLOAD, Layout, Transformer, stage_layers


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


def as_deepspeed_reads(data: dict, dp: int):
    "DeepSpeed's own reading of a file on `dp` replicas."
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.runtime.config import DeepSpeedConfig

    with patch("deepspeed.runtime.config.dist.get_rank", return_value=0):
        return DeepSpeedConfig(data, mpu=Ranks(dp))


def random_file(rng: random.Random) -> dict:
    "A file as people write them: some of the batch words, older names, switches that are off, devices that are none."
    batch = {"train_batch_size": rng.choice((8, 12, 16, 32)), "train_micro_batch_size_per_gpu": rng.choice((1, 2, 4)), "gradient_accumulation_steps": rng.choice((1, 2, 3))}
    zero: dict = {"stage": rng.choice((0, 1, 2, 3))} if rng.random() < 0.9 else {}
    for name in ("offload_optimizer", "offload_param"):
        if rng.random() < 0.4:
            zero[name] = rng.choice(({"device": "none"}, {"device": "cpu", "pin_memory": True}, {"device": "cpu"}, {}, {"device": "nvme", "nvme_path": "/tmp"}))
    return {name: batch[name] for name in batch if rng.random() < 0.75} | {"zero_optimization": zero} | rng.choice((
        {}, {"bf16": {"enabled": True}}, {"bf16": {"enabled": False}}, {"bfloat16": {"enabled": True}}, {"fp16": {"enabled": False}}, {"fp16": {"enabled": True}},
        {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}, {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}},
    ))


def test_files_that_are_read_are_read_as_deepspeed_reads_them():
    rng, agreed = random.Random(0), 0
    for _ in range(600):
        data, dp = random_file(rng), rng.choice((1, 2, 4))
        try:
            layout = read("deepspeed", data, devices=dp)
        except ValueError:
            continue
        theirs, agreed = as_deepspeed_reads(data, dp), agreed + 1
        assert (theirs.train_batch_size, theirs.train_micro_batch_size_per_gpu, theirs.gradient_accumulation_steps) == (layout.global_batch, layout.micro_batch, layout.micro_batches), data
        assert theirs.zero_optimization_stage == layout.zero and not theirs.float16_config.enabled
        assert theirs.bfloat16_config.enabled == layout.precision.startswith("mixed") and theirs.torch_autocast_enabled == (layout.precision == "autocast")
        assert (theirs.grad_accum_dtype == "fp32") == (layout.precision == "mixed-fp32-grads")
        optimizer, weights = (found is not None and found.device == "cpu" for found in (theirs.zero_config.offload_optimizer, theirs.zero_config.offload_param))
        assert layout.offload == ("all" if weights else "optimizer" if optimizer else "none"), data
    assert agreed > 50


def test_what_deepspeed_refuses_is_refused():
    rng, refused = random.Random(1), 0
    for _ in range(600):
        data, dp = random_file(rng), rng.choice((1, 2, 4))
        try:
            as_deepspeed_reads(data, dp)
        except (AssertionError, ValueError):
            refused += 1
            with pytest.raises(ValueError, match="^read: "):
                read("deepspeed", data, devices=dp)
    assert refused > 50


def test_every_field_of_deepspeeds_sections_is_known():
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.tensor_parallel.config import TPTrainingConfig
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig, DeepSpeedZeroOffloadParamConfig

    words = known_words("deepspeed")
    for section, config in [
        ("bf16", DeepSpeedBF16Config), ("fp16", DeepSpeedFP16Config), ("tensor_parallel", TPTrainingConfig), ("zero_optimization", DeepSpeedZeroConfig),
        ("zero_optimization.offload_optimizer", DeepSpeedZeroOffloadOptimizerConfig), ("zero_optimization.offload_param", DeepSpeedZeroOffloadParamConfig),
    ]:
        for name, field in config.model_fields.items():
            for known in {name, field.alias or name}:
                assert find_word("deepspeed", f"{section}.{known}", words) or any(word.startswith(f"{section}.{known}.") for word in words), f"{section}.{known}"


# Arguments of Megatron-LM's scripts that are no fields of Megatron-core's classes under the same name, and what they become
ELSEWHERE = {
    "num_layers_per_virtual_pipeline_stage": "virtual_pipeline_model_parallel_size", "num_virtual_stages_per_pipeline_rank": "virtual_pipeline_model_parallel_size",
    "grad_reduce_in_bf16": "grad_reduce_in_fp32", "no_gradient_accumulation_fusion": "gradient_accumulation_fusion", "swiglu": "gated_linear_unit", "disable_bias_linear": "add_bias_linear",
    "norm_epsilon": "layernorm_epsilon", "num_experts": "num_moe_experts", "no_bias_gelu_fusion": "bias_activation_fusion",
}
SCRIPTS_OWN = {
    "micro_batch_size", "global_batch_size", "ckpt_format", "group_query_attention", "seq_length", "max_position_embeddings", "position_embedding_type", "rotary_base",
    "untie_embeddings_and_output_weights", "vocab_size", "make_vocab_size_divisible_by",
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


@pytest.mark.parametrize("layers, pp", [(61, 8), (30, 4), (5, 2), (13, 12), (7, 3)])
def test_megatron_core_cuts_the_stages_that_are_written(layers, pp):
    from megatron.core.transformer.enums import LayerType
    from megatron.core.transformer.pipeline_parallel_layer_layout import PipelineParallelLayerLayout

    model = Transformer(layers=layers, hidden=64, heads=4, vocab=128, seq=32)
    text = Layout(pp=pp, micro_batches=pp).to("megatron", model, per_node=pp).data["--pipeline-model-parallel-layout"]
    theirs = PipelineParallelLayerLayout(text, pp)
    theirs.validate_layer_layout(num_layers=layers, mtp_num_layers=None)
    counts = [sum(kind == LayerType.decoder for kind in stage) for stage in PipelineParallelLayerLayout.parse_str_to_list(text)]
    assert counts == stages_of(text) == stage_layers(layers, pp)


@pytest.mark.parametrize("text", ["Et*3|(tt|)*5ttL", "Ett,|tt|(t|)*2,tL", "E(t)*2|t*2L"])
def test_megatron_cores_short_forms_are_written_out_the_same(text):
    from megatron.core.transformer.enums import LayerType
    from megatron.core.transformer.pipeline_parallel_layer_layout import PipelineParallelLayerLayout

    assert stages_of(text) == [sum(kind == LayerType.decoder for kind in stage) for stage in PipelineParallelLayerLayout.parse_str_to_list(text)]


def transformer_config(layout: Layout, model: Transformer):
    "Megatron-core's configuration of a written job, as `core_transformer_config_from_args` of Megatron-LM 0.16.1 makes it from the same arguments."
    import torch.nn.functional as F
    from megatron.core.transformer import TransformerConfig

    data = layout.to("megatron", model).data
    words = {
        "num_layers": "--num-layers", "hidden_size": "--hidden-size", "ffn_hidden_size": "--ffn-hidden-size", "num_attention_heads": "--num-attention-heads",
        "kv_channels": "--kv-channels", "num_query_groups": "--num-query-groups", "normalization": "--normalization", "layernorm_epsilon": "--norm-epsilon",
        "tensor_model_parallel_size": "--tensor-model-parallel-size", "pipeline_model_parallel_size": "--pipeline-model-parallel-size",
        "context_parallel_size": "--context-parallel-size", "sequence_parallel": "--sequence-parallel", "recompute_granularity": "--recompute-granularity",
        "recompute_method": "--recompute-method", "recompute_num_layers": "--recompute-num-layers", "pipeline_model_parallel_layout": "--pipeline-model-parallel-layout",
        "attention_dropout": "--attention-dropout", "hidden_dropout": "--hidden-dropout", "bf16": "--bf16", "num_moe_experts": "--num-experts",
        "moe_router_topk": "--moe-router-topk", "num_layers_per_virtual_pipeline_stage": "",
    }
    made = {field: data[name] for field, name in words.items() if name in data}
    gated, bias = "--swiglu" in data, "--disable-bias-linear" not in data
    import torch

    return TransformerConfig(
        **made, gated_linear_unit=gated, activation_func=F.silu if gated else F.gelu, add_bias_linear=bias, bias_activation_fusion=bias and "--no-bias-gelu-fusion" not in data,
        pipeline_dtype=torch.bfloat16 if "--bf16" in data else torch.float32,
    )


@pytest.mark.parametrize("layout, model", [
    (Layout(dp=2, tp=2, pp=4, zero=1, micro_batches=8, sequence_parallel=True, recompute="full", precision="mixed"), MODELS["llama-2-70b"]),
    (Layout(dp=2, pp=8, micro_batches=8, recompute="selective", precision="mixed-fp32-grads"), MODELS["llama-2-70b"].replace(layers=61)),
    (Layout(dp=2, tp=4), MODELS["gpt2"]), (Layout(pp=4, micro_batches=4), MODELS["gpt2"].replace(layers=30, activation="gelu", norm_eps=1e-6)),
], ids=repr)
def test_megatron_core_accepts_what_is_written_and_finds_the_same(layout, model):
    config = transformer_config(layout, model)
    assert (config.tensor_model_parallel_size, config.pipeline_model_parallel_size, config.sequence_parallel) == (layout.tp, layout.pp, layout.sequence_parallel)
    assert (config.num_layers, config.hidden_size, config.ffn_hidden_size, config.num_query_groups, config.kv_channels) == (model.layers, model.hidden, model.ffn, model.kv_heads, model.head_dim)
    assert (config.recompute_granularity or "none") == layout.recompute and config.layernorm_epsilon == model.norm_eps
    assert config.hidden_dropout == config.attention_dropout == 0 and config.gated_linear_unit == model.gated and config.add_bias_linear == model.bias
