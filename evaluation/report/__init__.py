"""The report of a round: one self-contained HTML page, and the same for machines."""

from evaluation.report.inputs import ReportInput
from evaluation.report.page import build_reports

__all__ = ["ReportInput", "build_reports"]
