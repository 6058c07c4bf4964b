"""Asynchronous GRPO: the admission window, advantages, and the loop, all without Ray."""
