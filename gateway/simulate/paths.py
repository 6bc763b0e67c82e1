"""Which paths of each engine are inference (faults count them), and which a gateway must never reach."""

from gateway.simulate.settings import Kind


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


INFERENCE: dict[Kind, frozenset[str]] = {
    "vllm": frozenset(
        _words("/v1/chat/completions /v1/completions /v1/embeddings /v1/rerank /rerank /v2/rerank /v1/score /score"),
    ),
    "sglang": frozenset(_words("/v1/chat/completions /v1/completions /v1/embeddings /v1/rerank /v1/score /generate /encode")),
    "mindie": frozenset(_words("/v1/chat/completions /v1/completions /generate")),
}
NEVER: dict[Kind, tuple[str, ...]] = {
    "vllm": _words(
        """
        /invocations /pooling /classify /detokenize /tokenizer_info /v1/load_lora_adapter /v1/unload_lora_adapter
        /start_profile /stop_profile /scale_elastic_ep /is_scaling_elastic_ep /fault_tolerance/* /abort_requests
        /inference/v1/generate /kv_event_sources /generative_scoring /server_info /reset_prefix_cache /reset_mm_cache
        /reset_encoder_cache /collective_rpc /sleep /wake_up /is_sleeping /release_kv_cache_memory /pause /resume
        /update_weights*
        """
    ),
    "sglang": _words(
        """
        /flush_cache /abort_request /pause_generation /continue_generation /update_weights_* /release_memory_occupation
        /resume_memory_occupation /set_internal_state /configure_logging /start_profile /stop_profile /load_lora_adapter
        /unload_lora_adapter /slow_down /pd_role_switch /open_session /close_session /hicache/* /freeze_gc
        /weights_checker /dumper/* /api/* /invocations /vertex_generate /generate /encode /server_info /get_server_info
        """
    ),
    "mindie": _words(
        """
        /stopService /v1/role/* /v2/role/* /v1/load_lora_adapter /v1/unload_lora_adapter
        /v1/engine-server/fault-handling-command /dresult /infer /infer_token /generate_stream
        /v2/models/*/infer /v2/models/*/generate /v2/models/*/generate_stream /v2/models/*/stopInfer
        """
    ),
}
