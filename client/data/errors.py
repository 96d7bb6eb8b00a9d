"""Failures of reading clinical tables. Messages name table and column, never a value."""

from __future__ import annotations

from fedward.errors import DataError


class MissingTableError(DataError):
    """A table that the format needs is not in the folder."""

    code = "FW-DATA-002"
    default_fix = "Add the table as CSV or CSV.GZ under its original name, or choose another --format."


class MissingColumnError(DataError):
    """A table has no column of a required name."""

    code = "FW-DATA-003"
    default_fix = "Export the table again with the column names of the published schema."


class WrongTypeError(DataError):
    """A cell cannot be read as the type of its column."""

    code = "FW-DATA-004"
    default_fix = "Check the export of this column: numbers use a point, times are written YYYY-MM-DD HH:MM:SS."


class UnreadableTableError(DataError):
    """A table is not readable CSV: broken compression, encoding or quoting."""

    code = "FW-DATA-005"
    default_fix = "Export the table again as UTF-8 CSV (RFC 4180), optionally gzip-compressed."


class EmptyHospitalError(DataError):
    """No record is left after the eligibility rules of the task."""

    code = "FW-DATA-006"
    default_fix = "Run `fedward data check DIR` to see how many records are eligible for each task."


class OneClassError(DataError):
    """Every eligible record has the same label, so nothing can be learnt or scored."""

    code = "FW-DATA-007"
    default_fix = "Choose another task, or a folder in which several outcomes occur."


class DuplicatePatientError(DataError):
    """An identifier occurs twice in a table that has one row for each."""

    code = "FW-DATA-008"
    default_fix = "Remove the duplicated rows."


class UnknownFormatError(DataError):
    """The declared format is not one that fedward reads."""

    code = "FW-DATA-009"
    default_fix = "Name a format that the message lists; `fedward data check DIR` says which one a folder has."


class ThresholdTableError(DataError):
    """The table of laboratory thresholds is not in increasing order or lacks words."""

    code = "FW-DATA-010"
    default_fix = "Give each measurement increasing edges and one word more than edges."


class MissingFolderError(DataError):
    """The data folder does not exist or is not a folder."""

    code = "FW-DATA-011"
    default_fix = "Give the path of the folder that holds the tables."


class BrokenReferenceError(DataError):
    """A row names a patient or admission that its own table lacks."""

    code = "FW-DATA-012"
    default_fix = "Export all tables from the same cohort."


class UnservedTaskError(DataError):
    """A data set does not hold what the task predicts."""

    code = "FW-DATA-030"
    default_fix = "Choose a task that `fedward data check DIR` lists for this folder, or another data set."


class UnitMismatchError(DataError):
    """The plan's unit of privacy is not the one that the data set's records are of."""

    code = "FW-DATA-031"
    default_fix = "Plan with the unit of the data set, or choose a data set of the plan's unit."


class QuestionFileError(DataError):
    """A file of questions is not in the published form."""

    code = "FW-DATA-032"
    default_fix = "Use the file as its authors published it."
