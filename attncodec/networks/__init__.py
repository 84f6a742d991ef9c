"""The codec: transforms, priors, entropy coder and the sealed model file."""
