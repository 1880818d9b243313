"""Plan of a search: settings derived from the images and the budget, and an estimate of its time."""
