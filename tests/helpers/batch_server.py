"""/files and /batches of a server of the chat protocol, beside the rest (`endpoint_server`)."""

import json
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]


class Batches:
    """A batch is worked at when it is looked at: `looks` times before it ends."""

    def __init__(self, answer: Callable[[Body], tuple[int, Any]]) -> None:
        """`answer`: HTTP status and response of one request."""
        self.looks = 1
        self.ends = "completed"  # or expired, or cancelled: after half of it; or failed: before any
        self.loses_output = False  # it completes without a file, though all was answered
        self.escapes = True  # what is not ASCII, in JSON
        self.writes: Callable[[str], str] = lambda text: text  # what becomes of a file of replies
        self.gone: set[str] = set()  # batches and files that it knows no more
        self.files: dict[str, str] = {}
        self.batches: dict[str, Body] = {}
        self._answer = answer

    def post(self, path: str, content_type: str, raw: bytes) -> tuple[int, Any]:
        """Status and response."""
        if path.endswith("/files"):
            boundary = content_type.partition("boundary=")[2].encode()
            parts = (part.partition(b"\r\n\r\n") for part in raw.split(b"--" + boundary))
            content = next(text for head, _, text in parts if b'name="file"' in head)
            return 200, {"id": self._keep(content.decode().removesuffix("\r\n")), "object": "file"}
        asked = json.loads(raw)
        batch = {
            **asked, "id": f"batch_{len(self.batches)}", "object": "batch", "status": "in_progress",
            "created_at": 0, "looks": 0,
        }  # fmt: skip
        self.batches[batch["id"]] = batch
        return 200, batch

    def get(self, path: str) -> tuple[int, Any]:
        """Status and response: a file's text, a batch, or all of these."""
        *_, kind, name = path.partition("?")[0].removesuffix("/content").split("/")
        if name in self.gone:
            return 404, {"error": {"message": f"No such object: {name}", "code": "not_found"}}
        if kind == "files":
            return 200, self.files[name]
        if name == "batches":
            return 200, {"object": "list", "data": [*self.batches.values()], "has_more": False}
        batch = self.batches[name]
        batch["looks"] += 1
        if batch["looks"] > self.looks and batch["status"] == "in_progress":
            self._end(batch)
        return 200, batch

    def _end(self, batch: Body) -> None:
        batch["status"] = self.ends
        asked = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        if self.ends == "failed":
            batch["errors"] = {"object": "list", "data": [{"message": "Line 1 is no JSON."}]}
            return
        done = len(asked) // 2 if self.ends in ("expired", "cancelled") else len(asked)
        output: list[Body] = []
        errors: list[Body] = []
        for place, line in reversed([*enumerate(asked)]):  # their order means nothing
            row: Body = {"id": f"r{place}", "custom_id": line["custom_id"], "response": None}
            if place >= done:
                errors.append({**row, "error": {"code": f"batch_{self.ends}", "message": "Late."}})
                continue
            status, body = self._answer(line["body"])
            row |= {"response": {"status_code": status, "body": body}, "error": None}
            (output if status == 200 else errors).append(row)
        for key, rows in (("output_file_id", output), ("error_file_id", errors)):
            if rows and not self.loses_output:
                lines = [json.dumps(row, ensure_ascii=self.escapes) + "\n" for row in rows]
                batch[key] = self._keep(self.writes("".join(lines)))

    def size(self, id: str) -> int:
        """Requests of a batch."""
        return self.files[self.batches[id]["input_file_id"]].count("\n")

    def _keep(self, text: str) -> str:
        name = f"file_{len(self.files)}"
        self.files[name] = text
        return name
