"""What a run leaves for people.

`results.json`, the terminal table, figures, the HTML report and the model card.
"""
