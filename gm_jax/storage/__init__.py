"""What a run leaves on disk: run folders, checkpoints, pictures, other programs' files."""
