"""New documents, which have no scores: a table with ids and texts, in any of the kinds of `table`."""

from collections.abc import Collection, Iterator

from debiasdpo.config.sameness import normal_text, same_name
from debiasdpo.documents.base import Document
from debiasdpo.documents.cells import required_text
from debiasdpo.documents.marks import Marks
from debiasdpo.documents.table import refuse_twin_ids, table_files, table_notes, table_rows
from debiasdpo.storage.files import user_path


class UnscoredDocuments(Collection[Document]):
    """Read anew each time they are gone through, in the order of the file, and never all kept. Each is a
    group of its own. Other columns than the two are passed over."""

    def __init__(self, path: str, *, key: str, id_column: str, text_column: str) -> None:
        """`path`: a file, or a folder of such; `key`: what names it, in messages. Goes through all rows once;
        `UserError` with file, row and column for whatever is wrong."""
        wanted = {id_column: "--id-column", text_column: "--text-column"}
        files = table_files(path, key)
        self._rows = table_rows(files, wanted)
        self._id, self._text = id_column, text_column
        self.notes = table_notes(user_path(path), files, wanted, key)
        ids, self._count = Marks(), 0
        for document in self:
            ids.add(same_name(document.id))
            self._count += 1
        refuse_twin_ids(ids, self._rows, id_column)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Document]:
        for where, cells in self._rows():
            name = required_text(cells, self._id, where)
            yield Document(name, name, normal_text(required_text(cells, self._text, where)), {})

    def __contains__(self, document: object) -> bool:
        return any(document == mine for mine in self)
