"""A small shop: payments, reports, notifications and what comes next, as typed tasks. See README.md beside this file."""
