"""The stage's two jobs: the base model's own answers, and a teacher's new rows."""

from generation.bare import Bare, bare_answers
from generation.teacher import Taught, teacher_rows

__all__ = ["Bare", "Taught", "bare_answers", "teacher_rows"]
