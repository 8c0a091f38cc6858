"""The version of this package; a stage or a job of another version is another one."""

__version__ = "0.1.0"
