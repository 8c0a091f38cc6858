"""One job: its identity, its frame (logging, versions, status) and its run folder."""
