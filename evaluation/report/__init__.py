"""The report of a round: one self-contained HTML page, and the same for machines."""

from evaluation.report.page import build_report, build_reports

__all__ = ["build_report", "build_reports"]
