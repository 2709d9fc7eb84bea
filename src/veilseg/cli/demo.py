"""``veilseg demo``."""

from pathlib import Path

from veilseg.cli.extras import needing
from veilseg.cli.progress import progress


def demo(out: Path, models: Path) -> None:
    """Run the demo and write its report; needs the ``demo`` extra."""
    with needing("demo", "the demo needs"):
        import matplotlib as _  # noqa: F401 - found missing now, not after minutes of work

        from veilseg.demo.report import require_replaceable, write_report
        from veilseg.demo.run import run_demo
    require_replaceable(out)
    with progress("demo") as show:
        result = run_demo(models, lambda done, total, what: show(done, total, what))
    write_report(result, out)
    figures = result.figures
    print(
        f"Dice plain {figures['dice_plain']:.3f}, private {figures['dice_private']:.3f}; "
        f"seconds {figures['seconds_plain']:.1f} and {figures['seconds_private']:.1f}; "
        f"the server reads the mask off its answer with Dice "
        f"{figures['answer_separation_dice']:.3f}"
    )
    print(f"report: {out / 'report.html'}")
