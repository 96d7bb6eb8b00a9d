"""A corpus: one question per line of ``questions.txt``. Its questions are of no person."""

from fedward.client.corpora.corpus import Corpus, Item


class Lines(Corpus):
    """Questions in a text file."""

    name, title, unit, licence = "lines", "questions by line", "question", "own"
    free_text_of_persons, gives, required = False, frozenset({"question"}), ("questions.txt",)

    def missing(self, folder):
        return [name for name in self.required if not (folder / name).is_file()]

    def sizes(self, folder):
        return {"questions.txt": sum(1 for _ in self.items(folder))}

    def items(self, folder, drops=None):
        for number, line in enumerate((folder / "questions.txt").read_text().splitlines()):
            yield Item(f"q{number}", language="en", texts={"question": line})
