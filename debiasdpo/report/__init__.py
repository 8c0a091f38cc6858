"""Many runs -> tables, figures and one page: `python -m debiasdpo.report PATH...`."""
