"""The report of a round: one self-contained HTML page."""

from evaluation.report.page import build_report

__all__ = ["build_report"]
