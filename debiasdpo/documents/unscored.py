"""New documents, which have no scores: a table with ids and texts, in any of the kinds of `table`."""

from collections.abc import Collection, Iterator

from debiasdpo.config.sameness import normal_text, same_name
from debiasdpo.documents.base import Document
from debiasdpo.documents.cells import cell_text, required_text
from debiasdpo.documents.columns import Cells, column_name
from debiasdpo.documents.marks import Marks
from debiasdpo.documents.table import table_files, table_notes, table_rows
from debiasdpo.errors import UserError
from debiasdpo.storage.files import user_path


class UnscoredDocuments(Collection[Document]):
    """Read anew each time they are gone through, in the order of the file, and never all kept. Each is a
    group of its own. Other columns than the two are passed over, and so are further rows of a document, as a
    table with a row for each human rater has them."""

    def __init__(self, path: str, *, key: str, id_column: str, text_column: str) -> None:
        """`path`: a file, or a folder of such; `key`: what names it, in messages. Goes through all rows once;
        `UserError` with file, row and column for whatever is wrong."""
        wanted = {id_column: "--id-column", text_column: "--text-column"}
        files = table_files(path, key)
        self._rows = table_rows(files, wanted)
        self._id, self._text = id_column, text_column
        self.notes = table_notes(user_path(path), files, wanted, key)
        ids = Marks()
        for where, cells in self._rows():
            ids.add(same_name(required_text(cells, id_column, where)))
        self._again = self._further_rows(ids)
        if self._again:
            self.notes["further row(s) of documents that are there already"] = len(self._again)
        self._count = sum(1 for _ in self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Document]:
        for number, (where, cells) in enumerate(self._rows()):
            if number not in self._again:
                name = required_text(cells, self._id, where)
                text = normal_text(required_text(cells, self._text, where))
                yield Document(name, name, text, {})

    def __contains__(self, document: object) -> bool:
        return any(document == mine for mine in self)

    def _further_rows(self, ids: Marks) -> frozenset[int]:
        """Rows that repeat the id of an earlier one with its text, or none; `UserError` for another text."""
        pairs = ids.twins().tolist()
        wanted = {position for pair in pairs for position in pair}
        rows = enumerate(self._rows() if wanted else ())
        found = {i: (self._said(cells, where), where) for i, (where, cells) in rows if i in wanted}
        again = set()
        for first, second in pairs:
            ((name, text), before), ((other, mine), where) = found[first], found[second]
            if same_name(name) != same_name(other):
                continue
            if mine and mine != text:
                raise UserError(
                    f"{where}: id {other!r} is already that of {before}, with another text. Give each"
                    " document its own id."
                )
            found[second] = ((other, text), where)
            again.add(second)
        return frozenset(again)

    def _said(self, cells: Cells, where: str) -> tuple[str, str]:
        """A row's id, and its text or none."""
        text = cell_text(cells.get(column_name(self._text)), f"{where}, column {self._text!r}")
        return required_text(cells, self._id, where), normal_text(text)
