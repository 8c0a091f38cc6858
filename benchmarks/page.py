"""Pages that benchmarks write, a section each."""

from pathlib import Path


def write_section(page: Path, title: str, text: str) -> None:
    """Put `text` under the heading `## title` of the page, in place of what stands there; at its end,
    if there is none."""
    whole = page.read_text(encoding="utf-8")
    heading = f"## {title}\n"
    before, found, after = whole.partition(heading)
    _, more, rest = after.partition("\n## ")
    if not found:
        before = whole.rstrip("\n") + "\n\n"
    section = f"{before}{heading}\n{text.strip()}\n"
    page.write_text(section + (f"\n## {rest}" if more else ""), encoding="utf-8")
