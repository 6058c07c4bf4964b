"""Budget schedules, one a file; see `bard_ray.budget.draw.BudgetSchedule`."""
