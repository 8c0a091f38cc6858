"""What a user can mend: shown as a message, never as a traceback."""


class UserError(Exception):
    """Bad input or a machine that lacks something. The text says what, where and how to mend it."""


class JobsFailed(Exception):
    """Jobs of this command failed. The text sums up what was not shown yet; it may be empty."""
