"""Pages: templates, styles and scripts that report, comparison, study and service share; tables as
values."""
