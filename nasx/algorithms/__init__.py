"""Search algorithms: they ask for genotypes and are told what they cost."""
