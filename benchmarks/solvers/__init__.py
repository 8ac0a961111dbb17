"""The solver benchmark: trained nets (nets, worlds), what is run (methods), timing (measure), the table (report)."""
