"""The journal: a log of answers that can be asked when, where and how sure. One SQLite file,
appended to by every localisation."""

from whence.journal.log import Entry, Found, Journal
from whence.journal.question import Question
from whence.journal.wording import parse_question

__all__ = ["Entry", "Found", "Journal", "Question", "parse_question"]
