"""Pre-training of sam_nano on synthetic scenes."""
