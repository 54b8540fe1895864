"""The stage's two jobs: the base model's own answers, and a teacher's new rows."""

from generation.account import account_lines
from generation.bare import Bare, bare_answers
from generation.cost import Plan, plan_teacher
from generation.jobs import Cluster
from generation.teacher import Taught, teacher_rows

__all__ = [
    "Bare",
    "Cluster",
    "Plan",
    "Taught",
    "account_lines",
    "bare_answers",
    "plan_teacher",
    "teacher_rows",
]
