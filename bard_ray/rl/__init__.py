"""Asynchronous GRPO without Ray: the admission window, the flow of groups, advantages, the loop."""
