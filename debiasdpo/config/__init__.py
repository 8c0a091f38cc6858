"""The typed schema of `conf/`, its checks, and their messages."""
