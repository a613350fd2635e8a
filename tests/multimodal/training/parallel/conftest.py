"""Says at the end how far the layouts were from one process, in the worst case."""


def pytest_terminal_summary(terminalreporter) -> None:
    reports = terminalreporter.stats.get("", [])  # what is said after a test comes with its end
    seen = [
        value for report in reports for name, value in report.user_properties if name == "worst"
    ]
    if seen:
        losses, norms, weights = (max(column) for column in zip(*seen, strict=True))
        terminalreporter.write_line(
            f"worst of {len(seen)} runs against one process: losses {losses:.0e}, gradient norms "
            f"{norms:.0e}, weights {weights:.0e}"
        )
