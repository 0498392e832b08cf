"""Rubrics: the questions by which a judge scores one result, each a YAML beside this file."""

from editkit.judges.rubrics.record import RUBRICS, Question, Rubric, load_rubric

__all__ = ["RUBRICS", "Question", "Rubric", "load_rubric"]
