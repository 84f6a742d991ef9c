"""From a folder of pictures to a trained model."""
