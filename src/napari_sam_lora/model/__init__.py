"""SAM models: checkpoints, image encoders, embeddings and prediction from prompts."""
