"""Print the speed table: ``make bench``."""

from tests.benchmarks import (
    dialects,
    environments,
    imports,
    in_process,
    jobs,
    journal,
    many_pairs,
    over_http,
    pages,
    perpetuals,
    slow_connections,
    store_waits,
    strategies,
    thin_client,
)
from tests.benchmarks.table import print_table

print_table(
    [
        *in_process.rows(),
        *perpetuals.rows(),
        *over_http.rows(),
        *thin_client.rows(),
        *dialects.rows(),
        *many_pairs.rows(),
        *journal.rows(),
        *strategies.rows(),
        *jobs.rows(),
        *imports.rows(),
        *store_waits.rows(),
        *slow_connections.rows(),
        *pages.rows(),
        *environments.rows(),
    ]
)
