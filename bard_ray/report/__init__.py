"""Reports of a run: `results.json`, terminal table, figures, HTML report and model card."""
