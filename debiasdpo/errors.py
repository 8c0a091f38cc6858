"""The one exception for what a user can mend: shown as a message, never as a traceback."""


class UserError(Exception):
    """Bad input or a machine that lacks something. The text says what, where and how to mend it."""


FAILURES: list[str] = []  # of the jobs of this command, a line each, for its end
