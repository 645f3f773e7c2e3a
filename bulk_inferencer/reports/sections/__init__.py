"""The sections of a report: one module, with one function from results to a section, for each."""
