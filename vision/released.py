"""The image encoder of Llama 3.2 Vision under its published names (Hugging Face's `vision_model`).

Every tensor of the release is one of ours with its numbers in the same order; some have another
shape (a patch as a row, tile tables with an axis for each of their indices), so that `reshape`
converts them both ways, bit for bit.
"""

from collections.abc import Mapping
from typing import Any

from vision.blocks import Activation
from vision.encoder import ImageEncoderConfig
from vision.tiles import arrangements

_STEM = {
    "patch_embedding.weight": "patch_embedding.weight",
    "class_embedding": "class_embedding",
    "position_embedding.table": "gated_positional_embedding.embedding",
    "position_embedding.tile_table": "gated_positional_embedding.tile_embedding.weight",
    "position_embedding.gate": "gated_positional_embedding.gate",
    "pre_tile_embedding.embedding": "pre_tile_positional_embedding.embedding.weight",
    "pre_tile_embedding.gate": "pre_tile_positional_embedding.gate",
    "post_tile_embedding.embedding": "post_tile_positional_embedding.embedding.weight",
    "post_tile_embedding.gate": "post_tile_positional_embedding.gate",
    "pre_norm.weight": "layernorm_pre.weight",
    "pre_norm.bias": "layernorm_pre.bias",
    "post_norm.weight": "layernorm_post.weight",
    "post_norm.bias": "layernorm_post.bias",
}
_BLOCK = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention_norm.bias": "input_layernorm.bias",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.output.weight": "self_attn.o_proj.weight",
    "feed_forward_norm.weight": "post_attention_layernorm.weight",
    "feed_forward_norm.bias": "post_attention_layernorm.bias",
    "feed_forward.up.weight": "mlp.fc1.weight",
    "feed_forward.up.bias": "mlp.fc1.bias",
    "feed_forward.down.weight": "mlp.fc2.weight",
    "feed_forward.down.bias": "mlp.fc2.bias",
}
_ACTIVATIONS: dict[Activation, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
}
_GATES = {"attention_gate": "gate_attn", "feed_forward_gate": "gate_ffn"}


def released_names(config: ImageEncoderConfig) -> dict[str, str]:
    """Each parameter of `ImageEncoder(config)` to its name within the release's `vision_model`.

    Raises:
        ValueError: the encoder has or lacks parameters that the release lacks or has.
    """
    _require_released_layout(config)
    names = dict(_STEM)
    for layer in range(config.num_layers):
        for ours, theirs in _BLOCK.items():
            names[f"local_blocks.{layer}.{ours}"] = f"transformer.layers.{layer}.{theirs}"
    for layer in range(config.num_global_layers):
        for ours, theirs in (_BLOCK | _GATES).items():
            names[f"global_blocks.{layer}.{ours}"] = f"global_transformer.layers.{layer}.{theirs}"
    return names


def encoder_config_from_released(vision_config: Mapping[str, Any]) -> ImageEncoderConfig:
    """Read the `vision_config` of a Llama 3.2 Vision `config.json`.

    Raises:
        ValueError: it describes an encoder that is not the release's.
    """
    max_num_tiles = vision_config["max_num_tiles"]
    listed = [tuple(shape) for shape in vision_config["supported_aspect_ratios"]]
    if listed != arrangements(max_num_tiles):
        raise ValueError(
            f"vision_config.supported_aspect_ratios {listed} must be all arrangements of at most "
            f"{max_num_tiles} tiles, in the order {arrangements(max_num_tiles)}"
        )
    if vision_config.get("norm_eps", 1e-5) != 1e-5:
        raise ValueError("vision_config.norm_eps must be 1e-05, as in the release")
    activations = {theirs: ours for ours, theirs in _ACTIVATIONS.items()}
    activation = vision_config.get("hidden_act", "gelu")
    if activation not in activations:
        raise ValueError(f"vision_config.hidden_act {activation!r} is none of {list(activations)}")
    config = ImageEncoderConfig(
        image_size=vision_config["image_size"],
        patch_size=vision_config["patch_size"],
        dim=vision_config["hidden_size"],
        num_layers=vision_config["num_hidden_layers"],
        num_heads=vision_config["attention_heads"],
        ffn_dim=vision_config["intermediate_size"],
        num_global_layers=vision_config["num_global_layers"],
        intermediate_layers=tuple(vision_config["intermediate_layers_indices"]),
        max_num_tiles=max_num_tiles,
        activation=activations[activation],
        mode="released",
    )
    if vision_config.get("vision_output_dim", config.feature_dim) != config.feature_dim:
        raise ValueError(
            f"vision_config.vision_output_dim {vision_config['vision_output_dim']} must be "
            f"{config.feature_dim}: hidden_size for the last and for each intermediate layer"
        )
    return config


def released_vision_config(config: ImageEncoderConfig) -> dict[str, Any]:
    """The `vision_config` of a Llama 3.2 Vision `config.json`.

    Raises:
        ValueError: the release has no such encoder.
    """
    _require_released_layout(config)
    return {
        "model_type": "mllama_vision_model",
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_size": config.dim,
        "num_hidden_layers": config.num_layers,
        "num_global_layers": config.num_global_layers,
        "attention_heads": config.num_heads,
        "intermediate_size": config.ffn_dim,
        "vision_output_dim": config.feature_dim,
        "intermediate_layers_indices": list(config.intermediate_layers),
        "max_num_tiles": config.max_num_tiles,
        "supported_aspect_ratios": [list(shape) for shape in arrangements(config.max_num_tiles)],
        "hidden_act": _ACTIVATIONS[config.activation],
        "num_channels": 3,
        "norm_eps": config.norm_eps,
    }


def _require_released_layout(config: ImageEncoderConfig) -> None:
    """Refuse an encoder whose parameters are not those of the release."""
    required = {
        "class_token": True,
        "pre_norm": True,
        "tile_positions": True,
        "patch_bias": False,
        "attention_bias": False,
        "norm_eps": 1e-5,
    }
    for key, value in required.items():
        if getattr(config, key) != value:
            raise ValueError(
                f"image_encoder.{key} must be {value} to be written as Llama 3.2 Vision, "
                f"not {getattr(config, key)}"
            )
