"""Measure how far irrelevant social context moves a model's ratings, train it away, and show it.

Method: Debiasing-DPO (Nam & Demszky, arXiv 2604.02585).
"""

__version__ = "0.1.0"
