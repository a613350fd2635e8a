"""The frozen Llama 3 language core: model, tokenizer, dialog format, generation, checkpoints."""
