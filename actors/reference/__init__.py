"""The reference worker: a frozen policy behind the `Reference` role."""
