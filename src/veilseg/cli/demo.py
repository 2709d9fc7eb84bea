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
        f"Dice plain {figures['dice_plain']:.3f}, mixture {figures['dice_private']:.3f}, "
        f"encoding {figures['dice_encoded']:.3f}; seconds {figures['seconds_plain']:.1f}, "
        f"{figures['seconds_private']:.1f}, {figures['seconds_encoded']:.1f}; the server reads "
        f"the mask off its answer to the mixture with Dice "
        f"{figures['answer_separation_dice']:.3f}, and off like tokens of the encoded one, if it "
        f"is told what each group is, with {figures['alike_tokens_dice']:.3f}"
    )
    print(f"report: {out / 'report.html'}")
