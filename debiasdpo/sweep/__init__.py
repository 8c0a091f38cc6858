"""Many jobs: launch, plan, status."""
