"""Slurm, Ray, several processes of one machine; states of jobs; interrupts, and what a process may lack."""
