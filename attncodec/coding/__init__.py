"""What makes bytes of latents: integer networks, tables, the range coder, model files, encoder and decoder."""
