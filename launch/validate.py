"""Read every recorded episode and name what is wrong.

    python -m launch.validate --data runs/recordings

Exits with status 1 where something is.
"""

import sys

from tqdm import tqdm

from configs import cli
from configs.data import Validation
from launch.shared.runs import one_line_errors


def main() -> int:
    """Check and report."""
    arguments = cli.parse(Validation)
    from collect.store import DataError
    from collect.validate import validate

    with one_line_errors(DataError):
        # tqdm itself: how many episodes there are isn't known before the last is read.
        for report in tqdm(validate(arguments.data, arguments.use), unit="episode"):  # noqa: B007
            pass
    for finding in report.findings:
        print(f"{'error' if finding.fault else 'note'}: {finding.path}: {finding.text}", file=sys.stderr)
    print(
        f"{report.episodes} episodes, {report.decisions} decisions, {report.bytes / 1e6:.1f} MB, "
        f"{len(report.faults)} faults"
    )
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
