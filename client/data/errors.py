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
    """No patient is left after the eligibility rules of the task."""

    code = "FW-DATA-006"
    default_fix = "Run `fedward data check DIR` to see how many stays are eligible for each task."


class OneClassError(DataError):
    """Every eligible patient has the same outcome, so nothing can be learnt or scored."""

    code = "FW-DATA-007"
    default_fix = "Choose another task or a folder in which both outcomes occur."


class DuplicatePatientError(DataError):
    """A patient occurs twice where one row or one side of a split is required."""

    code = "FW-DATA-008"
    default_fix = "Remove the duplicated rows; a patient has one row and belongs to one side of a split."


class UnknownFormatError(DataError):
    """The declared format or task is not one that fedward reads."""

    code = "FW-DATA-009"
    default_fix = "Use --format mimic-iii or eicu, and task mortality or los3."


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
