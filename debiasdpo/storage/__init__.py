"""Files that outlive a job: atomic writes, fingerprints, and the store of finished stages."""
