"""Print the speed table: ``make bench``."""

from tests.benchmarks import in_process, jobs, journal, over_http, strategies
from tests.benchmarks.table import print_table

print_table(
    [
        *in_process.rows(),
        *over_http.rows(),
        *journal.rows(),
        *strategies.rows(),
        *jobs.rows(),
    ]
)
