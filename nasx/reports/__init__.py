"""Tables, figures and pages made from trials."""
