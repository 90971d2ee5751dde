"""One file for each type of task; `examples.shop.app` imports them all."""
