"""Slurm, Ray, several processes of one machine; how jobs are doing; interrupts."""
