"""Pictures: tiles, image encoder, public backbones, cross-attention adapter."""
