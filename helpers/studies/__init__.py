"""What one notebook asks and nobody else."""
