"""Small models of the types that AdapterHub's library knows."""

from __future__ import annotations

from typing import Any

D: dict[str, Any] = {"hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 56}
TEXT: dict[str, Any] = {"vocab_size": 50, "max_position_embeddings": 32, "pad_token_id": 0}
STILL: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SEEN: dict[str, Any] = {**D, **STILL, "image_size": 16, "patch_size": 8}
BART: dict[str, Any] = {
    "vocab_size": 50, "d_model": 40, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 5,
    "decoder_attention_heads": 5, "encoder_ffn_dim": 56, "decoder_ffn_dim": 56, "max_position_embeddings": 32,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "dropout": 0.0, "decoder_start_token_id": 2,
}  # fmt: skip
T5: dict[str, Any] = {
    "vocab_size": 50, "d_model": 40, "d_kv": 8, "d_ff": 56, "num_layers": 2, "num_heads": 5, "dropout_rate": 0.0,
    "decoder_start_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
HEARD: dict[str, Any] = {**BART, "num_mel_bins": 8, "max_source_positions": 8, "max_target_positions": 32}
BERT: dict[str, Any] = {**D, **TEXT, **STILL, "eos_token_id": 2}
DEBERTA: dict[str, Any] = {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
DISTILBERT: dict[str, Any] = {
    **TEXT, "eos_token_id": 2, "dim": 40, "hidden_dim": 56, "n_layers": 2, "n_heads": 5, "dropout": 0.0,
    "attention_dropout": 0.0,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "vocab_size": 50, "n_embd": 40, "n_layer": 2, "n_head": 5, "n_positions": 32, "n_inner": 56, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
#: Name of the base to how classes of it begin, its plain model, and its configuration.
BASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("Bert", "Model", BERT),
    "bert, apart": ("Bert", "Model", {**BERT, "tie_word_embeddings": False, "is_decoder": True, "use_cache": False}),
    "roberta": ("Roberta", "Model", {**BERT, "is_decoder": False}),
    "xlm-roberta": ("XLMRoberta", "Model", BERT),
    "albert": ("Albert", "Model", {**BERT, "embedding_size": 20}),
    "electra": ("Electra", "Model", {**BERT, "embedding_size": 40}),
    "distilbert": ("DistilBert", "Model", DISTILBERT),
    "deberta": ("Deberta", "Model", DEBERTA),
    "deberta-v2": ("DebertaV2", "Model", DEBERTA),
    "bert-generation": ("BertGeneration", "Encoder", {**BERT, "is_decoder": True, "use_cache": False}),
    "gpt2": ("GPT2", "Model", GPT2),
    "gptj": ("GPTJ", "Model", {**GPT2, "rotary_dim": 4, "tie_word_embeddings": False}),
    "llama": ("Llama", "Model", {**D, **TEXT, "eos_token_id": 2, "tie_word_embeddings": False}),
    "mistral": (
        "Mistral",
        "Model",
        {**D, **TEXT, "eos_token_id": 2, "num_key_value_heads": 5, "tie_word_embeddings": True},
    ),
    "bart": ("Bart", "Model", BART),
    "mbart": ("MBart", "Model", BART),
    "plbart": ("PLBart", "Model", BART),
    "t5": ("T5", "Model", {**T5, "eos_token_id": 2}),
    "mt5": ("MT5", "Model", {**T5, "eos_token_id": 2, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "whisper": ("Whisper", "Model", HEARD),
    "vit": ("ViT", "Model", SEEN),
    "beit": ("Beit", "Model", {**SEEN, "drop_path_rate": 0.0}),
    "clip": ("CLIPText", "Model", {**D, **TEXT, "bos_token_id": 1, "eos_token_id": 2}),
}
