"""What people see of a run: tables, pictures and pages made from trials."""
