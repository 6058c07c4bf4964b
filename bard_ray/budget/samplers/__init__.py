"""Budget samplers, one a file; see `bard_ray.budget.draw.BudgetSampler`."""
