"""Programs that use tq as anyone would; README.md beside this file lists them."""
