"""Prompts of the compressors, one text file each; see `bard_ray.distill.prompt_templates`."""
