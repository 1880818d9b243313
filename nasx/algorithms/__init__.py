"""Search algorithms: they propose genotypes (ask) and receive their objective values (tell)."""
