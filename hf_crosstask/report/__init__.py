"""A study's report: what was found, as HTML, Markdown, LaTeX, CSV and figures, from what is on disk."""
