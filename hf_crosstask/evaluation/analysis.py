"""An analysis as data: its finding in words, tables and figures, before anyone decides how they look.

What calibration, probing, error analysis and the like write as JSON, and what a report renders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hf_crosstask.atomic import write_json
from hf_crosstask.errors import InputError


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Mark(_Model):
    """A cell that stands out: the best of its group, the second best, or with a mark of significance behind it."""

    text: str
    best: bool = False
    second: bool = False
    mark: str = ""


Cell = str | bool | int | float | Mark | None


class Table(_Model):
    """A table. Cells are shown as they are; floats with four decimals, None as a dash.

    Attributes:
        name: of its file.
        caption: what it shows.
        columns: headings.
        rows: cells, as many a row as there are headings.
        note: what must be read with it.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""

    @model_validator(mode="after")
    def _rectangular(self) -> Table:
        wrong = next((row for row in self.rows if len(row) != len(self.columns)), None)
        if wrong is not None:
            raise ValueError(f"table {self.name}: a row has {len(wrong)} cells for {len(self.columns)} columns")
        return self


class Series(_Model):
    """Points of one name; `low` and `high` are the ends of their intervals where there are any.

    Categories (bars, forests) are `x` as text.
    """

    name: str
    x: list[float | str]
    y: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None


class Matrix(_Model):
    """Values of rows by columns; None where there is none."""

    rows: list[str]
    columns: list[str]
    values: list[list[float | None]]
    diverging: bool = True


class FigureData(_Model):
    """A figure.

    Attributes:
        name: of its file.
        caption: what it shows, and how to read it.
        kind: forest (horizontal estimates with intervals), bars, lines, scatter, heatmap.
        reference: a line to compare with (0 in a forest, the diagonal in a reliability diagram).
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    caption: str
    kind: Literal["forest", "bars", "lines", "scatter", "heatmap"]
    x_label: str = ""
    y_label: str = ""
    series: list[Series] = []
    matrix: Matrix | None = None
    reference: Literal["zero", "diagonal"] | None = None


class Analysis(_Model):
    """One finished analysis: what it found, in words, tables and figures."""

    schema_version: Literal[1] = 1
    kind: str
    title: str
    summary: list[str]
    tables: list[Table] = []
    figures: list[FigureData] = []


def write_analysis(path: Path, analysis: Analysis) -> Path:
    """Write it as JSON, whole or not at all."""
    return write_json(path, analysis.model_dump(mode="json"))


def read_analysis(path: Path) -> Analysis:
    """Read one.

    Raises:
        InputError: it is missing or is no analysis.
    """
    try:
        return Analysis.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path} is no analysis of this version: {where}: {first['msg']}") from None
